import { formatMultirange, type IndexSet } from "@fastgpu/domain/index-set";
import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type GpuId,
  type NodeId,
  type OrgId,
  type ProjectId,
  type TaskId,
} from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { AtLease } from "./attempts.ts";

/** What one member of an attempt gets. */
export interface LeasedMember {
  readonly node: NodeId;
  readonly gpus: readonly {
    readonly id: GpuId;
    readonly sku: string;
    readonly priceVersion: number;
    readonly simulated: boolean;
  }[];
}

/** A lease to write: one attempt with all of its members and their GPUs. */
export interface NewLease {
  readonly attempt: AttemptId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly task: TaskId;
  readonly epoch: number;
  readonly number: number;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly stopGraceMs: number;
  readonly elements: IndexSet | undefined;
  readonly fundedMs: number | undefined;
  /** By rank. */
  readonly members: readonly LeasedMember[];
  readonly traceparent: string;
  readonly atLease: AtLease;
}

const lockGpus = statement<{
  id: string;
  node_id: string;
  model: string;
  reserved_task_id: string | null;
}>(
  "leases_lock_gpus",
  `select id, node_id, model, case when reserved_until_ms > $2 then reserved_task_id end as reserved_task_id
   from gpus where id = any($1::uuid[]) and state = 'IDLE' and present order by id for update`,
);
const readyNodes = statement<{ id: string }>(
  "leases_ready_nodes",
  "select id from nodes where id = any($1::uuid[]) and state = 'READY' and lease_until_ms > $2",
);
const insertAttempts = statement(
  "leases_insert_attempts",
  `insert into attempts (id, member, org_id, project_id, task_id, node_id, epoch, leader_epoch, number, state, cpu_millis,
     memory_mib, disk_mib, stop_grace_ms, elements, lease_ms, funded_ms, traceparent, principal, preemptible, priority,
     submitted_ms, max_runtime_ms, attained_gpu_ms, preemptions)
   select c.id, c.member, c.org_id, c.project_id, c.task_id, c.node_id, c.epoch, $2, c.number, 'LEASED', c.cpu_millis,
     c.memory_mib, c.disk_mib, c.stop_grace_ms, c.elements, $3, c.funded_ms, c.traceparent, c.principal, c.preemptible,
     c.priority, c.submitted_ms, c.max_runtime_ms, c.attained_gpu_ms, c.preemptions
   from json_to_recordset($1::json) as c(id uuid, member int, org_id uuid, project_id uuid, task_id uuid, node_id uuid,
     epoch bigint, number int, cpu_millis bigint, memory_mib bigint, disk_mib bigint, stop_grace_ms bigint, elements int4multirange,
     funded_ms bigint, traceparent text, principal text, preemptible boolean, priority int, submitted_ms bigint,
     max_runtime_ms bigint, attained_gpu_ms bigint, preemptions int)`,
);
const insertAllocations = statement(
  "leases_insert_allocations",
  `insert into allocations (attempt_id, member, gpu_id, org_id, project_id, task_id, sku, price_version, simulated,
     principal, from_ms, cut_ms)
   select c.attempt_id, c.member, c.gpu_id, c.org_id, c.project_id, c.task_id, c.sku, c.price_version, c.simulated,
     c.principal, free.from_ms, free.from_ms
   from json_to_recordset($1::json) as c(attempt_id uuid, member int, gpu_id uuid, org_id uuid, project_id uuid, task_id uuid,
     sku text, price_version int, simulated boolean, principal text),
     -- Another replica's clock may be a little ahead: a GPU's time never begins before it was given back.
     lateral (select greatest($2::bigint, max(a.released_ms)) as from_ms
              from allocations a where a.gpu_id = c.gpu_id) free`,
);
const takeGpus = statement(
  "leases_take_gpus",
  `update gpus g set state = 'LEASED', attempt_id = c.attempt_id, last_org = c.org_id, member = c.member,
     reserved_task_id = null, reserved_until_ms = null
   from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[]) as c(gpu_id, attempt_id, org_id, member) where g.id = c.gpu_id`,
);
const scheduleTasks = statement(
  "leases_schedule_tasks",
  `update tasks t set prev_state = case when c.state = t.state then t.prev_state else t.state end, state = c.state,
     epoch = c.epoch, revision = t.revision + 1, queue_reason = null, status_message = c.message,
     attempt_id = c.attempt_id, attempt_count = c.attempt_count,
     idx_pending = coalesce(c.idx_pending, t.idx_pending), idx_leased = coalesce(c.idx_leased, t.idx_leased)
   from json_to_recordset($1::json) as c(id uuid, state text, epoch bigint, message text, attempt_id uuid,
     attempt_count int, idx_pending int4multirange, idx_leased int4multirange)
   where t.id = c.id`,
);

/** A GPU that a lease may take. */
export interface FreeGpu {
  readonly node: NodeId;
  readonly model: string;
  /** The one task that may take it, where a preemption has freed it. */
  readonly reservedFor: TaskId | undefined;
}

/** Locks those of the GPUs that are free. */
export async function lockFreeGpus(
  tx: Querier,
  gpus: readonly GpuId[],
  nowMs: number,
): Promise<ReadonlyMap<GpuId, FreeGpu>> {
  if (gpus.length === 0) return new Map();
  const rows = await tx.query(lockGpus, [gpus.map(idToUuid), nowMs]);
  return new Map(
    rows.map((row) => [
      uuidToId("gpu", row.id),
      {
        node: uuidToId("node", row.node_id),
        model: row.model,
        reservedFor:
          row.reserved_task_id === null ? undefined : uuidToId("task", row.reserved_task_id),
      },
    ]),
  );
}

/** Those of the nodes that take work and whose lease stands. */
export async function readReadyNodes(
  tx: Querier,
  nodes: readonly NodeId[],
  nowMs: number,
): Promise<ReadonlySet<NodeId>> {
  const rows = await tx.query(readyNodes, [nodes.map(idToUuid), nowMs]);
  return new Set(rows.map((row) => uuidToId("node", row.id)));
}

/** Writes leases: attempts with all their members, their allocations, and the GPUs as taken. */
export async function insertLeases(
  tx: Querier,
  leases: readonly NewLease[],
  at: { leaderEpoch: bigint; nowMs: number },
): Promise<void> {
  const members = leases.flatMap((lease) =>
    lease.members.map(({ node, gpus }, member) => ({ lease, member, node, gpus })),
  );
  const attempts = members.map(({ lease, member, node }) => ({
    id: idToUuid(lease.attempt),
    member,
    org_id: idToUuid(lease.org),
    project_id: idToUuid(lease.project),
    task_id: idToUuid(lease.task),
    node_id: idToUuid(node),
    epoch: lease.epoch,
    number: lease.number,
    cpu_millis: lease.cpuMillis,
    memory_mib: lease.memoryMib,
    disk_mib: lease.diskMib,
    stop_grace_ms: lease.stopGraceMs,
    elements: lease.elements === undefined ? null : formatMultirange(lease.elements),
    funded_ms: lease.fundedMs ?? null,
    traceparent: lease.traceparent,
    ...atLeaseColumns(lease.atLease),
  }));
  await tx.query(insertAttempts, [JSON.stringify(attempts), at.leaderEpoch, at.nowMs]);
  const held = members.flatMap(({ lease, member, gpus }) =>
    gpus.map((gpu) => ({ lease, member, gpu })),
  );
  if (held.length === 0) return;
  const allocations = held.map(({ lease, member, gpu }) => ({
    attempt_id: idToUuid(lease.attempt),
    member,
    gpu_id: idToUuid(gpu.id),
    org_id: idToUuid(lease.org),
    project_id: idToUuid(lease.project),
    task_id: idToUuid(lease.task),
    sku: gpu.sku,
    price_version: gpu.priceVersion,
    simulated: gpu.simulated,
    principal: lease.atLease.user,
  }));
  await tx.query(insertAllocations, [JSON.stringify(allocations), at.nowMs]);
  await tx.query(takeGpus, [
    held.map(({ gpu }) => idToUuid(gpu.id)),
    held.map(({ lease }) => idToUuid(lease.attempt)),
    held.map(({ lease }) => idToUuid(lease.org)),
    held.map(({ member }) => member),
  ]);
}

function atLeaseColumns(at: AtLease) {
  return {
    principal: at.user,
    preemptible: at.preemptible,
    priority: at.priority,
    submitted_ms: at.submittedMs,
    max_runtime_ms: Number.isFinite(at.maxRuntimeMs) ? at.maxRuntimeMs : null,
    attained_gpu_ms: Math.round(at.attainedGpuMs),
    preemptions: at.preemptions,
  };
}

/** How a task stands after its leases were written. */
export interface ScheduledTask {
  readonly id: TaskId;
  readonly state: "SCHEDULED" | "RUNNING" | "STARTING";
  readonly epoch: number;
  readonly message: string;
  readonly attempt: AttemptId;
  readonly attemptCount: number;
  readonly array: { readonly pending: IndexSet; readonly leased: IndexSet } | undefined;
}

/** Writes what leases change of their tasks. */
export async function storeScheduled(tx: Querier, tasks: readonly ScheduledTask[]): Promise<void> {
  const rows = tasks.map((task) => ({
    id: idToUuid(task.id),
    state: task.state,
    epoch: task.epoch,
    message: task.message,
    attempt_id: idToUuid(task.attempt),
    attempt_count: task.attemptCount,
    idx_pending: task.array === undefined ? null : formatMultirange(task.array.pending),
    idx_leased: task.array === undefined ? null : formatMultirange(task.array.leased),
  }));
  await tx.query(scheduleTasks, [JSON.stringify(rows)]);
}
