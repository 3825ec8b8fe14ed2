import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { NodeId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A worker's identity: a node id and the key that proves it. */
export interface Worker {
  readonly nodeId: NodeId;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Buffer;
  readonly displayName: string;
  readonly joinedMs: number;
}

const insert = statement(
  "worker_insert",
  "INSERT INTO workers (node_id, public_key, display_name, joined_ms) VALUES ($1, $2, $3, $4)",
);
const get = statement<{ public_key: Buffer; display_name: string; joined_ms: bigint }>(
  "worker_get",
  "SELECT public_key, display_name, joined_ms FROM workers WHERE node_id = $1",
);

/** Registers a worker. The constraint `workers_public_key_key` refuses a key that another node has. */
export async function insertWorker(tx: Tx, worker: Worker): Promise<void> {
  const { nodeId, publicKey, displayName, joinedMs } = worker;
  await tx.query(insert, [idToUuid(nodeId), publicKey, displayName, joinedMs]);
}

/** One worker. */
export async function getWorker(db: Querier, nodeId: NodeId): Promise<Worker | undefined> {
  const [row] = await db.query(get, [idToUuid(nodeId)]);
  if (row === undefined) return undefined;
  return {
    nodeId,
    publicKey: row.public_key,
    displayName: row.display_name,
    joinedMs: Number(row.joined_ms),
  };
}

const findByKey = statement<{ node_id: string }>(
  "worker_find_by_key",
  "SELECT node_id FROM workers WHERE public_key = $1",
);

/** The worker that has this key. */
export async function findWorkerByKey(
  db: Querier,
  publicKey: Uint8Array,
): Promise<NodeId | undefined> {
  const [row] = await db.query(findByKey, [Buffer.from(publicKey)]);
  return row === undefined ? undefined : uuidToId("node", row.node_id);
}
