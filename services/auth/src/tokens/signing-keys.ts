import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { calculateJwkThumbprint } from "jose";
import type { JWK } from "jose";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Pool, Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import { tokenNames } from "@fastgpu/rpc/tokens";
import type { SigningKey } from "@fastgpu/rpc/tokens";
import {
  insertSigningKey,
  listSigningKeys,
  lockSigningKeys,
  retireOtherKeys,
} from "../store/signing-keys.ts";
import type { SigningKeyRow } from "../store/signing-keys.ts";

/** A new key is published this long before it signs, so that every verifier has seen it. */
export const KEY_LEAD_MS = 10 * 60_000;

/** How long a process uses the keys that it has read. */
const CACHE_MS = 60_000;

/** The present keys of the installation. */
export interface SigningKeys {
  /** The key that signs now. */
  current(): Promise<SigningKey>;
  /** A JSON Web Key Set (RFC 7517) of every key whose tokens may still be valid. */
  jwksJson(): Promise<string>;
  /** Forgets what was read: the next call reads again. */
  refresh(): void;
}

/** Makes the first signing key; does nothing where there is one. Answers whether it made one. */
export async function ensureSigningKey(
  tx: Tx,
  options: { master: MasterKey; nowMs: number },
): Promise<boolean> {
  await lockSigningKeys(tx);
  const existing = await listSigningKeys(tx, options.nowMs);
  if (existing.length > 0) return false;
  await insertSigningKey(tx, await newSigningKey(options.master, options.nowMs, options.nowMs));
  return true;
}

/**
 * Adds a key that signs after {@link KEY_LEAD_MS} and lets the others end when the last token that they can sign has.
 * Answers the new key's id.
 */
export async function rotateSigningKey(
  core: Pool,
  options: { master: MasterKey; nowMs: number },
): Promise<string> {
  const { master, nowMs } = options;
  const key = await newSigningKey(master, nowMs, nowMs + KEY_LEAD_MS);
  await transaction(core, async (tx) => {
    await lockSigningKeys(tx);
    await insertSigningKey(tx, key);
    await retireOtherKeys(tx, key.kid, key.signsFromMs + CACHE_MS + tokenNames.accessTtlMs);
  });
  return key.kid;
}

/** Reads keys when needed and keeps them for a minute, private parts decrypted in memory only. */
export function openSigningKeys(options: {
  readonly core: Querier;
  readonly master: MasterKey;
  readonly clock: Clock;
}): SigningKeys {
  const { core, master, clock } = options;
  let cached: { readonly rows: Promise<SigningKeyRow[]>; readonly readMs: number } | undefined;
  const opened = new Map<string, KeyObject>();

  const rows = (): Promise<SigningKeyRow[]> => {
    const nowMs = clock.nowMs();
    if (cached === undefined || nowMs - cached.readMs >= CACHE_MS) {
      const reading = listSigningKeys(core, nowMs);
      reading.catch(() => (cached = undefined));
      cached = { rows: reading, readMs: nowMs };
    }
    return cached.rows;
  };
  return {
    async current() {
      const nowMs = clock.nowMs();
      const row = (await rows()).find((candidate) => candidate.signsFromMs <= nowMs);
      if (row === undefined) {
        throw new Fault("UNAVAILABLE", "there is no signing key", {
          hint: "was the first start interrupted? start again",
          retryAfterMs: 1_000,
        });
      }
      const privateKey = opened.get(row.kid) ?? unsealKey(master, row);
      opened.set(row.kid, privateKey);
      return { kid: row.kid, privateKey, jwk: entryOf(row) };
    },
    async jwksJson() {
      return JSON.stringify({ keys: (await rows()).map(entryOf) });
    },
    refresh() {
      cached = undefined;
    },
  };
}

/** An Ed25519 public key as a JSON Web Key (RFC 8037). */
export function publicJwk(publicKey: Uint8Array): JWK {
  return { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKey).toString("base64url") };
}

function entryOf(row: SigningKeyRow): JWK {
  return { ...publicJwk(row.publicKey), kid: row.kid, alg: "EdDSA", use: "sig" };
}

async function newSigningKey(
  master: MasterKey,
  nowMs: number,
  signsFromMs: number,
): Promise<SigningKeyRow> {
  const pair = generateKeyPairSync("ed25519");
  const x = pair.publicKey.export({ format: "jwk" }).x ?? "";
  const publicKey = Buffer.from(x, "base64url");
  const kid = await calculateJwkThumbprint(publicJwk(publicKey));
  const der = pair.privateKey.export({ format: "der", type: "pkcs8" });
  const sealedPrivateKey = master.seal(der, contextOf(kid));
  return { kid, publicKey, sealedPrivateKey, createdMs: nowMs, signsFromMs };
}

function unsealKey(master: MasterKey, row: SigningKeyRow): KeyObject {
  const der = master.open(row.sealedPrivateKey, contextOf(row.kid));
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

function contextOf(kid: string): string {
  return `signing-key/${kid}`;
}
