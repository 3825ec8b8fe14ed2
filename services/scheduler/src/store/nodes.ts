import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type GpuId,
  type NodeId,
  type OrgId,
  type TaskId,
} from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { GpuStateName, NodeStateName } from "../api/wire-states.ts";
import { nil } from "./columns.ts";

/** A node as the database has it. */
export interface StoredNode {
  readonly id: NodeId;
  readonly displayName: string;
  readonly workerVersion: string;
  readonly bootId: string;
  readonly state: NodeStateName;
  readonly sessionEpoch: number;
  /** Address of the replica that holds its session. */
  readonly replica: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly runtimes: readonly string[];
  /** Places that hold it, by kind. */
  readonly topology: Readonly<Record<string, string>>;
  readonly leaseUntilMs: number;
  readonly lastSeenMs: number;
}

/** A GPU as the database has it. */
export interface StoredGpu {
  readonly id: GpuId;
  readonly node: NodeId;
  readonly index: number;
  /** The vendor's identity. */
  readonly uuid: string;
  readonly model: string;
  readonly memoryMib: number;
  readonly simulated: boolean;
  /** False where the worker no longer lists it. */
  readonly present: boolean;
  readonly state: GpuStateName;
  readonly attempt: AttemptId | undefined;
  /** The rank of the member that holds it. */
  readonly member: number;
  readonly lastOrg: OrgId | undefined;
  /** The one task that may take it once it is free, and until when. */
  readonly reserved: { readonly for: TaskId; readonly untilMs: number } | undefined;
}

interface NodeRow {
  id: string;
  display_name: string;
  worker_version: string;
  boot_id: string;
  state: NodeStateName;
  session_epoch: bigint;
  replica: string;
  cpu_millis: bigint;
  memory_mib: bigint;
  disk_mib: bigint;
  runtimes: string[];
  topology: Record<string, string>;
  lease_until_ms: bigint;
  last_seen_ms: bigint;
}

interface GpuRow {
  id: string;
  node_id: string;
  index: number;
  uuid: string;
  model: string;
  memory_mib: bigint;
  simulated: boolean;
  present: boolean;
  state: GpuStateName;
  attempt_id: string | null;
  member: number;
  last_org: string | null;
  reserved_task_id: string | null;
  reserved_until_ms: bigint | null;
}

const toNode = (row: NodeRow): StoredNode => ({
  id: uuidToId("node", row.id),
  displayName: row.display_name,
  workerVersion: row.worker_version,
  bootId: row.boot_id,
  state: row.state,
  sessionEpoch: Number(row.session_epoch),
  replica: row.replica,
  cpuMillis: Number(row.cpu_millis),
  memoryMib: Number(row.memory_mib),
  diskMib: Number(row.disk_mib),
  runtimes: row.runtimes,
  topology: row.topology,
  leaseUntilMs: Number(row.lease_until_ms),
  lastSeenMs: Number(row.last_seen_ms),
});

const toGpu = (row: GpuRow): StoredGpu => ({
  id: uuidToId("gpu", row.id),
  node: uuidToId("node", row.node_id),
  index: row.index,
  uuid: row.uuid,
  model: row.model,
  memoryMib: Number(row.memory_mib),
  simulated: row.simulated,
  present: row.present,
  state: row.state,
  attempt: row.attempt_id === null ? undefined : uuidToId("att", row.attempt_id),
  member: row.member,
  lastOrg: row.last_org === null ? undefined : uuidToId("org", row.last_org),
  reserved:
    row.reserved_task_id === null
      ? undefined
      : { for: uuidToId("task", row.reserved_task_id), untilMs: Number(row.reserved_until_ms) },
});

const selectAll = statement<NodeRow>("nodes_all", "select * from nodes order by id");
const selectByIds = statement<NodeRow>(
  "nodes_by_ids",
  "select * from nodes where id = any($1::uuid[]) order by id",
);
const selectPage = statement<NodeRow>(
  "nodes_page",
  "select * from nodes where id > $1 order by id limit $2",
);
const lockOne = statement<NodeRow>("nodes_lock", "select * from nodes where id = $1 for update");
const selectGpusOfNodes = statement<GpuRow>(
  "gpus_of_nodes",
  "select * from gpus where node_id = any($1::uuid[]) order by node_id, index",
);
const selectGpuPage = statement<GpuRow>(
  "gpus_page",
  `select * from gpus where present and ($1::uuid is null or node_id = $1) and (node_id, index) > ($2, $3)
   order by node_id, index limit $4`,
);

/** Every node. */
export async function readAllNodes(db: Querier): Promise<StoredNode[]> {
  return (await db.query(selectAll)).map(toNode);
}

/** The nodes of these ids; unknown ids are left out. */
export async function readNodes(db: Querier, ids: readonly NodeId[]): Promise<StoredNode[]> {
  return (await db.query(selectByIds, [ids.map(idToUuid)])).map(toNode);
}

/** A page of nodes in order of id. */
export async function listNodes(db: Querier, after: NodeId | undefined, limit: number) {
  const rows = await db.query(selectPage, [after === undefined ? nil : idToUuid(after), limit]);
  return rows.map(toNode);
}

/** One node, locked until the transaction ends. */
export async function lockNode(tx: Querier, id: NodeId): Promise<StoredNode | undefined> {
  const [row] = await tx.query(lockOne, [idToUuid(id)]);
  return row === undefined ? undefined : toNode(row);
}

/** GPUs of nodes, absent ones included. */
export async function readGpusOf(db: Querier, nodes: readonly NodeId[]): Promise<StoredGpu[]> {
  return (await db.query(selectGpusOfNodes, [nodes.map(idToUuid)])).map(toGpu);
}

/** A page of present GPUs by node and index. */
export async function listGpus(
  db: Querier,
  page: {
    node: NodeId | undefined;
    afterNode: NodeId | undefined;
    afterIndex: number;
    limit: number;
  },
): Promise<StoredGpu[]> {
  const rows = await db.query(selectGpuPage, [
    page.node === undefined ? null : idToUuid(page.node),
    page.afterNode === undefined ? nil : idToUuid(page.afterNode),
    page.afterIndex,
    page.limit,
  ]);
  return rows.map(toGpu);
}

const selectModels = statement<{ model: string }>(
  "gpus_models",
  "select distinct model from gpus order by model",
);

/** The models of all GPUs that were ever there. */
export async function readModels(db: Querier): Promise<string[]> {
  return (await db.query(selectModels)).map(({ model }) => model);
}

const selectKinds = statement<{ model: string; simulated: boolean }>(
  "gpus_kinds",
  "select distinct model, simulated from gpus order by model, simulated",
);

/** The kinds of all GPUs that were ever there. */
export function readGpuKinds(
  db: Querier,
): Promise<readonly { readonly model: string; readonly simulated: boolean }[]> {
  return db.query(selectKinds);
}

const countByNode = statement<{ node_id: string; model: string; gpus: bigint }>(
  "gpus_by_node",
  `select g.node_id, g.model, count(*) as gpus from gpus g join nodes n on n.id = g.node_id
   where g.present and g.state <> 'QUARANTINED' and n.state <> 'LOST' group by g.node_id, g.model
   order by g.node_id, g.model`,
);

/** How many GPUs of each model each node has, whatever they do: without lost nodes and what is out of use. */
export async function countGpusByNode(db: Querier): Promise<ReadonlyMap<string, number>[]> {
  const byNode = Map.groupBy(await db.query(countByNode), (row) => row.node_id);
  return Array.from(
    byNode.values(),
    (rows) => new Map(rows.map(({ model, gpus }) => [model, Number(gpus)])),
  );
}

/** What a worker says of its machine. */
export interface NodeInventory {
  readonly id: NodeId;
  readonly displayName: string;
  readonly workerVersion: string;
  readonly bootId: string;
  readonly replica: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly runtimes: readonly string[];
  readonly topology: Readonly<Record<string, string>>;
  readonly leaseUntilMs: number;
  readonly nowMs: number;
}

const upsertNode = statement<{ session_epoch: bigint }>(
  "nodes_upsert",
  `insert into nodes as n (id, display_name, worker_version, boot_id, state, session_epoch, replica, cpu_millis,
     memory_mib, disk_mib, runtimes, lease_until_ms, last_seen_ms, topology)
   values ($1, $2, $3, $4, 'READY', 1, $5, $6, $7, $8, $9, $10, $11, $12)
   on conflict (id) do update set display_name = excluded.display_name, worker_version = excluded.worker_version,
     boot_id = excluded.boot_id, state = 'READY', session_epoch = n.session_epoch + 1, replica = excluded.replica,
     cpu_millis = excluded.cpu_millis, memory_mib = excluded.memory_mib, disk_mib = excluded.disk_mib,
     runtimes = excluded.runtimes, lease_until_ms = greatest(n.lease_until_ms, excluded.lease_until_ms),
     last_seen_ms = excluded.last_seen_ms, topology = excluded.topology
   returning session_epoch`,
);

/** Opens a session: every session before it is fenced. Returns its epoch. */
export async function openSession(tx: Querier, node: NodeInventory): Promise<number> {
  const [row] = await tx.query(upsertNode, [
    idToUuid(node.id),
    node.displayName,
    node.workerVersion,
    node.bootId,
    node.replica,
    node.cpuMillis,
    node.memoryMib,
    node.diskMib,
    node.runtimes,
    node.leaseUntilMs,
    node.nowMs,
    JSON.stringify(node.topology),
  ]);
  return Number(row?.session_epoch ?? 0n);
}

const upsertGpus = statement(
  "gpus_upsert",
  `insert into gpus as g (id, node_id, index, uuid, model, memory_mib, simulated, state)
   select c.id, $1, c.index, c.uuid, c.model, c.memory_mib, c.simulated, 'IDLE'
   from unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::bigint[], $7::boolean[])
     as c(id, index, uuid, model, memory_mib, simulated)
   on conflict (node_id, uuid) do update set index = excluded.index, model = excluded.model,
     memory_mib = excluded.memory_mib, simulated = excluded.simulated, present = true`,
);
const hideGpus = statement(
  "gpus_hide",
  "update gpus set present = false where node_id = $1 and uuid <> all($2::text[]) and present",
);

/** Stores a node's GPUs; those it no longer lists are kept, marked absent. */
export async function storeGpus(
  tx: Querier,
  node: NodeId,
  gpus: readonly {
    newId: GpuId;
    index: number;
    uuid: string;
    model: string;
    memoryMib: number;
    simulated: boolean;
  }[],
): Promise<void> {
  await tx.query(upsertGpus, [
    idToUuid(node),
    gpus.map((gpu) => idToUuid(gpu.newId)),
    gpus.map((gpu) => gpu.index),
    gpus.map((gpu) => gpu.uuid),
    gpus.map((gpu) => gpu.model),
    gpus.map((gpu) => gpu.memoryMib),
    gpus.map((gpu) => gpu.simulated),
  ]);
  await tx.query(hideGpus, [idToUuid(node), gpus.map((gpu) => gpu.uuid)]);
}

const renew = statement<{ id: string }>(
  "nodes_renew",
  `update nodes n set lease_until_ms = greatest(n.lease_until_ms, c.lease_until_ms), last_seen_ms = $4
   from unnest($1::uuid[], $2::bigint[], $3::bigint[]) as c(id, session_epoch, lease_until_ms)
   where n.id = c.id and n.session_epoch = c.session_epoch and n.state <> 'LOST'
   returning n.id`,
);

/** Renews node leases under their session epochs; answers the nodes whose epoch still stands and that are not lost. */
export async function renewLeases(
  db: Querier,
  items: readonly { node: NodeId; sessionEpoch: number; leaseUntilMs: number }[],
  nowMs: number,
): Promise<ReadonlySet<NodeId>> {
  const rows = await db.query(renew, [
    items.map((item) => idToUuid(item.node)),
    items.map((item) => item.sessionEpoch),
    items.map((item) => item.leaseUntilMs),
    nowMs,
  ]);
  return new Set(rows.map((row) => uuidToId("node", row.id)));
}

const setNodeState = statement(
  "nodes_set_state",
  "update nodes set state = $2 where id = any($1::uuid[]) and state <> $2",
);

/** Sets whether nodes take work. */
export async function storeNodeState(
  tx: Querier,
  nodes: readonly NodeId[],
  state: NodeStateName,
): Promise<void> {
  await tx.query(setNodeState, [nodes.map(idToUuid), state]);
}

const setGpuState = statement(
  "gpus_set_state",
  `update gpus set state = $2, attempt_id = null where id = any($1::uuid[])`,
);

/** Sets the state of GPUs that no attempt holds any more. */
export async function storeGpuState(
  tx: Querier,
  gpus: readonly GpuId[],
  state: Exclude<GpuStateName, "LEASED">,
): Promise<void> {
  await tx.query(setGpuState, [gpus.map(idToUuid), state]);
}

const reconcileGpus = statement(
  "gpus_reconcile",
  "update gpus set state = 'IDLE', attempt_id = null where node_id = $1 and state = 'UNKNOWN'",
);

/** Returns the GPUs of a node that has reconciled to use. */
export async function releaseUnknownGpus(tx: Querier, node: NodeId): Promise<void> {
  await tx.query(reconcileGpus, [idToUuid(node)]);
}
