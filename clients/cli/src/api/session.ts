import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type ExchangeTokenResponse,
  TokenService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { type Channel, createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";

/** A token is exchanged anew when it has less than this left. */
const MARGIN_MS = 30_000;

/** The exchange of the API key for tokens, and what the first one said of the caller. */
export interface Session {
  /** A token that is valid for a while yet. */
  token(): Promise<string>;
  /** Whom the key speaks for. */
  identity(): Promise<ExchangeTokenResponse>;
  close(): void;
}

/** A session at the gateway; nothing is sent before the first need. */
export function openSession(options: {
  address: string;
  key: string | undefined;
  nowMs: () => number;
}): Session {
  const { address, key, nowMs } = options;
  const channel: Channel = createChannel({ address });
  const tokens = createClient(TokenService, channel);
  let current: Promise<ExchangeTokenResponse> | undefined;
  let validUntilMs = 0;

  function identity(): Promise<ExchangeTokenResponse> {
    if (key === undefined) {
      return Promise.reject(
        new CliError("there is no API key", {
          why: "neither the context nor FASTGPU_API_KEY names one",
          hint: "fastgpu config set --key KEY; fastgpu start makes a first one on this machine",
          exitCode: exitCodes.notAllowed,
        }),
      );
    }
    if (current === undefined || nowMs() > validUntilMs) {
      validUntilMs = Number.POSITIVE_INFINITY;
      current = tokens
        .exchangeToken({ credential: { case: "apiKey", value: key } }, { waitForReady: false })
        .then((response) => {
          validUntilMs =
            (response.expireTime ? timestampMs(response.expireTime) : nowMs()) - MARGIN_MS;
          return response;
        });
      // A failed exchange is not remembered.
      current.catch(() => (current = undefined));
    }
    return current;
  }

  return {
    identity,
    token: async () => (await identity()).accessToken,
    close: () => channel.close(),
  };
}
