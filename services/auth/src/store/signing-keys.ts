import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A key that signs tokens, its private part sealed under the master key. */
export interface SigningKeyRow {
  readonly kid: string;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Buffer;
  readonly sealedPrivateKey: Buffer;
  readonly createdMs: number;
  /** It verifies from its creation on and signs from then on: verifiers have time to fetch it first. */
  readonly signsFromMs: number;
}

interface Row {
  readonly kid: string;
  readonly public_key: Buffer;
  readonly sealed_private_key: Buffer;
  readonly created_ms: bigint;
  readonly signs_from_ms: bigint;
}

const lock = statement(
  "signing_key_lock",
  "SELECT pg_advisory_xact_lock(hashtextextended('auth.signing_keys', 0))",
);
const insert = statement(
  "signing_key_insert",
  `INSERT INTO signing_keys (kid, public_key, sealed_private_key, created_ms, signs_from_ms)
   VALUES ($1, $2, $3, $4, $5)`,
);
const list = statement<Row>(
  "signing_key_list",
  `SELECT kid, public_key, sealed_private_key, created_ms, signs_from_ms FROM signing_keys
   WHERE retired_ms IS NULL OR retired_ms > $1 ORDER BY signs_from_ms DESC, kid`,
);
const retire = statement(
  "signing_key_retire",
  "UPDATE signing_keys SET retired_ms = $2 WHERE kid <> $1 AND retired_ms IS NULL",
);

/** Waits for other transactions that make or retire keys; the lock ends with the transaction. */
export async function lockSigningKeys(tx: Tx): Promise<void> {
  await tx.query(lock);
}

/** Adds a key. */
export async function insertSigningKey(tx: Tx, key: SigningKeyRow): Promise<void> {
  await tx.query(insert, [
    key.kid,
    key.publicKey,
    key.sealedPrivateKey,
    key.createdMs,
    key.signsFromMs,
  ]);
}

/** Keys that are not retired at `nowMs`, the newest first. */
export async function listSigningKeys(db: Querier, nowMs: number): Promise<SigningKeyRow[]> {
  const rows = await db.query(list, [nowMs]);
  return rows.map((row) => ({
    kid: row.kid,
    publicKey: row.public_key,
    sealedPrivateKey: row.sealed_private_key,
    createdMs: Number(row.created_ms),
    signsFromMs: Number(row.signs_from_ms),
  }));
}

/** Lets every key but `kid` end at `retiredMs`: when no token that it signed can be valid any more. */
export async function retireOtherKeys(tx: Tx, kid: string, retiredMs: number): Promise<void> {
  await tx.query(retire, [kid, retiredMs]);
}
