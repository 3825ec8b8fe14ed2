import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { Id, NodeId, OrgId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A single-use invitation of one worker. */
export interface WorkerJoinToken {
  readonly joinId: Id<"join">;
  /** The organisation whose operator made it; the join is recorded there. */
  readonly orgId: OrgId;
  readonly mac: Buffer;
  readonly createdBy: string;
  readonly createdMs: number;
  readonly expiresMs: number;
  /** Who used it. */
  readonly use: { readonly nodeId: NodeId; readonly publicKey: Buffer } | undefined;
}

interface Row {
  readonly org_id: string;
  readonly mac: Buffer;
  readonly created_by: string;
  readonly created_ms: bigint;
  readonly expires_ms: bigint;
  readonly node_id: string | null;
  readonly public_key: Buffer | null;
}

const insert = statement(
  "join_token_insert",
  `INSERT INTO worker_join_tokens (join_id, org_id, mac, created_by, created_ms, expires_ms)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);
const lock = statement<Row>(
  "join_token_lock",
  `SELECT org_id, mac, created_by, created_ms, expires_ms, node_id, public_key
   FROM worker_join_tokens WHERE join_id = $1 FOR UPDATE`,
);
const use = statement(
  "join_token_use",
  "UPDATE worker_join_tokens SET node_id = $2, public_key = $3 WHERE join_id = $1 AND node_id IS NULL",
);

/** Adds an unused token. */
export async function insertJoinToken(tx: Tx, token: Omit<WorkerJoinToken, "use">): Promise<void> {
  await tx.query(insert, [
    idToUuid(token.joinId),
    idToUuid(token.orgId),
    token.mac,
    token.createdBy,
    token.createdMs,
    token.expiresMs,
  ]);
}

/** Reads a token and locks it: of two joins at once the second sees the first. */
export async function lockJoinToken(
  tx: Tx,
  joinId: Id<"join">,
): Promise<WorkerJoinToken | undefined> {
  const [row] = await tx.query(lock, [idToUuid(joinId)]);
  if (row === undefined) return undefined;
  const used = row.node_id !== null && row.public_key !== null;
  return {
    joinId,
    orgId: uuidToId("org", row.org_id),
    mac: row.mac,
    createdBy: row.created_by,
    createdMs: Number(row.created_ms),
    expiresMs: Number(row.expires_ms),
    use: used ? { nodeId: uuidToId("node", row.node_id), publicKey: row.public_key } : undefined,
  };
}

/** Notes who used the token. */
export async function useJoinToken(
  tx: Tx,
  joinId: Id<"join">,
  by: { nodeId: NodeId; publicKey: Uint8Array },
): Promise<void> {
  await tx.query(use, [idToUuid(joinId), idToUuid(by.nodeId), Buffer.from(by.publicKey)]);
}
