import type { Tracing } from "@fastgpu/telemetry/tracing";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { Client, credentials, logVerbosity, setLogVerbosity } from "@grpc/grpc-js";
import type { ChannelCredentials } from "@grpc/grpc-js";
import { limits } from "./limits.ts";
import { resetRequestsWithoutEnd } from "./reset.ts";

// What goes wrong in the transport reaches our callers as faults; grpc-js itself would write to standard error.
setLogVerbosity(logVerbosity.NONE);
resetRequestsWithoutEnd();

/** For which call a token is wanted. */
export interface TokenRequest {
  /** Id of the principal for whom the call is made, where it is made for one. */
  readonly onBehalfOf?: string | undefined;
}

/** Options of {@link createChannel}. */
export interface ChannelOptions {
  /** `unix:/path` or `host:port`. */
  readonly address: string;
  /** Whom to trust, and what to show; missing: clear text, for unix sockets and loopback. PEM. */
  readonly tls?: { readonly caPem?: string; readonly certPem?: string; readonly keyPem?: string };
  /** The token of each call; missing: none is sent. */
  readonly token?: (request: TokenRequest) => Promise<string>;
  readonly tracing?: Tracing;
}

/** A connection to one service, shared by its clients. It connects on first use and again when it is lost. */
export interface Channel {
  readonly address: string;
  readonly token: ((request: TokenRequest) => Promise<string>) | undefined;
  readonly tracing: Tracing;
  /** The grpc-js client, carrying bytes. */
  readonly transport: Client;
  /** Breaks off what is open. */
  close(): void;
}

/** Makes a channel; nothing is dialled yet. */
export function createChannel(options: ChannelOptions): Channel {
  const transport = new Client(options.address, credentialsOf(options.tls), {
    "grpc.max_receive_message_length": limits.transportMessageBytes,
    "grpc.max_send_message_length": limits.transportMessageBytes,
    "grpc-node.flow_control_window": limits.flowWindowBytes,
    "grpc.keepalive_time_ms": limits.keepaliveMs,
    "grpc.keepalive_timeout_ms": limits.keepaliveTimeoutMs,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 2_000,
    // Retries are ours: they know which calls may be repeated and obey RetryInfo.
    "grpc.enable_retries": 0,
    "grpc.enable_channelz": 0,
    "grpc.service_config_disable_resolution": 1,
    // Services of one process must not share, and so lose, one connection.
    "grpc.use_local_subchannel_pool": 1,
  });
  return {
    address: options.address,
    token: options.token,
    tracing: options.tracing ?? passiveTracing,
    transport,
    close: () => transport.close(),
  };
}

function credentialsOf(tls: ChannelOptions["tls"]): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const pem = (text: string | undefined) => (text === undefined ? null : Buffer.from(text));
  return credentials.createSsl(pem(tls.caPem), pem(tls.keyPem), pem(tls.certPem));
}
