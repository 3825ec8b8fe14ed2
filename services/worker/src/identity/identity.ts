import {
  type KeyObject,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
} from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  TokenService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { SignJWT } from "jose";
import { writeJson } from "../keeper/files.ts";

/** Who this worker is. */
export interface WorkerIdentity {
  /** Node id. */
  readonly node: string;
  /** A token for calls, renewed ahead of its end. */
  token(): Promise<string>;
}

interface Stored {
  privateKeyPem: string;
  node?: string;
}

const assertionSeconds = 120;
const renewAheadMs = 60_000;
const ed25519SpkiPrefixBytes = 12;

/**
 * The worker's key pair from `path` (made on first use) and its node id. Without a node id it joins with `joinToken`,
 * as often as it takes: the same key gets the same answer. Waits while auth is away.
 */
export async function openIdentity(options: {
  path: string;
  channel: Channel;
  joinToken: string | undefined;
  displayName: string;
  stop: AbortSignal;
}): Promise<WorkerIdentity> {
  const stored = load(options.path);
  const key = createPrivateKey(stored.privateKeyPem);
  const node = stored.node ?? (await join(options, key));
  if (stored.node === undefined) writeJson(options.path, { ...stored, node }, true);
  return { node, token: createTokenSource(options.channel, node, key) };
}

function load(path: string): Stored {
  if (existsSync(path)) return JSON.parse(readFileSync(path, "utf8")) as Stored;
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const stored = { privateKeyPem: pem };
  // Durable before it is registered: a key that is lost cannot join again with the same token.
  writeJson(path, stored, true);
  return stored;
}

async function join(
  options: {
    channel: Channel;
    joinToken: string | undefined;
    displayName: string;
    stop: AbortSignal;
  },
  key: KeyObject,
): Promise<string> {
  const { joinToken, displayName, stop } = options;
  if (joinToken === undefined) {
    throw Fault.invalid(
      "worker.joinToken",
      "is needed for a worker's first start",
      "make one with `fastgpu node invite`",
    );
  }
  const spki = createPublicKey(key).export({ type: "spki", format: "der" });
  const publicKey = new Uint8Array(spki.subarray(ed25519SpkiPrefixBytes));
  const client = createClient(WorkerIdentityService, options.channel);
  for (let pauseMs = 50; ; pauseMs = Math.min(2_000, pauseMs * 2)) {
    try {
      return (await client.joinWorker({ joinToken, publicKey, displayName }, { signal: stop }))
        .node;
    } catch (error) {
      const fault = Fault.from(error);
      if (stop.aborted || !["UNAVAILABLE", "DEADLINE_EXCEEDED", "DRAINING"].includes(fault.reason))
        throw fault;
      await sleep(pauseMs, stop);
    }
  }
}

/** Exchanges a self-signed assertion for a token, and keeps it until shortly before its end. */
function createTokenSource(channel: Channel, node: string, key: KeyObject): () => Promise<string> {
  const client = createClient(TokenService, channel);
  let kept: { token: Promise<string>; renewAtMs: number } | undefined;
  const exchange = async (): Promise<string> => {
    const workerAssertion = await new SignJWT({})
      .setProtectedHeader({ alg: "EdDSA", typ: "JWT" })
      .setIssuer(node)
      .setSubject(node)
      .setAudience("fastgpu-auth")
      .setIssuedAt()
      .setExpirationTime(`${assertionSeconds}s`)
      .sign(key);
    const credential = { case: "workerAssertion", value: workerAssertion } as const;
    const answer = await client.exchangeToken({ credential }, { retry: true });
    const endMs = answer.expireTime === undefined ? 0 : timestampMs(answer.expireTime);
    if (kept !== undefined) kept.renewAtMs = endMs - renewAheadMs;
    return answer.accessToken;
  };
  return () => {
    if (kept !== undefined && Date.now() < kept.renewAtMs) return kept.token;
    const token = exchange();
    // Shared by all calls until the answer says how long it lasts.
    kept = { token, renewAtMs: Date.now() + 10_000 };
    token.catch(() => (kept = undefined));
    return token;
  };
}
