import { formatMultirange, parseMultirange, type IndexSet } from "@fastgpu/domain/index-set";
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
import type { RetryCounts, RetryPolicy } from "@fastgpu/domain/retry";
import type { ExitClass, TaskState } from "@fastgpu/domain/states";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { Demand, Topology } from "@fastgpu/scheduling/plan";
import type { QueueReason } from "../api/wire-states.ts";
import { optional } from "./columns.ts";
import { unfinished } from "./lineages.ts";

/** An array's elements by where they stand. */
export interface ArraySets {
  readonly pending: IndexSet;
  readonly leased: IndexSet;
  readonly succeeded: IndexSet;
  readonly failed: IndexSet;
  readonly cancelled: IndexSet;
}

/** An array; its elements together are 0 … count − 1. */
export interface TaskArray extends ArraySets {
  readonly count: number;
  /** Greatest number of elements that run at once. */
  readonly parallelism: number;
}

/** A task as the database has it. */
export interface StoredTask {
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The principal who submitted it; "" for tasks of before that was kept. */
  readonly user: string;
  readonly displayName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** TaskSpec with defaults, serialized. */
  readonly spec: Uint8Array;
  readonly demand: Demand;
  /** Members of a gang; 1: a plain task. */
  readonly replicas: number;
  readonly topology: Topology;
  readonly priority: number;
  readonly retry: RetryPolicy;
  readonly maxRuntimeMs: number;
  readonly stopGraceMs: number;
  /** Whether it may be stopped in favour of others. */
  readonly preemptible: boolean;
  /** How often it was. */
  readonly preemptions: number;
  /** The same for tasks that run the same thing for the same user (spec/lineage.ts); undefined without GPUs. */
  readonly lineage: string | undefined;
  /** What its first lease took over from tasks of its lineage that had ended without success. */
  readonly carried: { readonly gpuMs: number; readonly preemptions: number };
  readonly state: TaskState;
  readonly epoch: number;
  readonly revision: number;
  readonly queueReason: QueueReason | undefined;
  readonly statusMessage: string;
  readonly exitClass: ExitClass | undefined;
  readonly exitCode: number | undefined;
  readonly attemptCount: number;
  readonly counts: RetryCounts;
  readonly notBeforeMs: number;
  readonly excludedGpus: readonly GpuId[];
  /** Dependencies that are not resolved yet. */
  readonly waitingFor: number;
  readonly cancelRequested: boolean;
  /** The present or last attempt; for an array, the last one leased. */
  readonly attempt: AttemptId | undefined;
  readonly array: TaskArray | undefined;
  /** Progress message, serialized. */
  readonly progress: Uint8Array | undefined;
  readonly manifestDigest: string | undefined;
  readonly traceparent: string;
  readonly createdMs: number;
  readonly submittedMs: number | undefined;
  readonly startedMs: number | undefined;
  readonly endedMs: number | undefined;
}

/** The columns of a task's demand. */
export interface DemandColumns {
  runtime: "container" | "process";
  gpu_count: number;
  gpu_models: string[];
  gpu_min_memory_mib: bigint;
  simulated_ok: boolean;
  cpu_millis: bigint;
  memory_mib: bigint;
  disk_mib: bigint;
}

/** What a task needs, from its row. */
export const demandOf = (row: DemandColumns): Demand => ({
  runtime: row.runtime,
  gpuCount: row.gpu_count,
  gpuModels: row.gpu_models,
  gpuMinMemoryMib: Number(row.gpu_min_memory_mib),
  simulatedOk: row.simulated_ok,
  cpuMillis: Number(row.cpu_millis),
  memoryMib: Number(row.memory_mib),
  diskMib: Number(row.disk_mib),
});

interface TaskRow extends DemandColumns {
  id: string;
  org_id: string;
  project_id: string;
  principal: string;
  preemptible: boolean;
  preemptions: number;
  lineage: string | null;
  carried_gpu_ms: bigint;
  carried_preemptions: number;
  replicas: number;
  topology: Topology;
  display_name: string;
  labels: Record<string, string>;
  spec: Buffer;
  priority: number;
  max_retries: number;
  retry_on: ExitClass[];
  max_runtime_ms: bigint;
  stop_grace_ms: bigint;
  state: TaskState;
  epoch: bigint;
  revision: bigint;
  queue_reason: QueueReason | null;
  status_message: string;
  exit_class: ExitClass | null;
  exit_code: number | null;
  attempt_count: number;
  retries: number;
  free_requeues: number;
  not_before_ms: bigint;
  excluded_gpus: string[];
  waiting_for: number;
  cancel_requested: boolean;
  attempt_id: string | null;
  array_count: number | null;
  array_parallelism: number | null;
  idx_pending: string | null;
  idx_leased: string | null;
  idx_succeeded: string | null;
  idx_failed: string | null;
  idx_cancelled: string | null;
  progress: Buffer | null;
  manifest_digest: string | null;
  traceparent: string;
  created_ms: bigint;
  submitted_ms: bigint | null;
  started_ms: bigint | null;
  ended_ms: bigint | null;
}

function arrayOf(row: TaskRow): TaskArray | undefined {
  if (row.array_count === null) return undefined;
  return {
    count: row.array_count,
    parallelism: row.array_parallelism ?? row.array_count,
    pending: parseMultirange(row.idx_pending ?? ""),
    leased: parseMultirange(row.idx_leased ?? ""),
    succeeded: parseMultirange(row.idx_succeeded ?? ""),
    failed: parseMultirange(row.idx_failed ?? ""),
    cancelled: parseMultirange(row.idx_cancelled ?? ""),
  };
}

function toTask(row: TaskRow): StoredTask {
  return {
    id: uuidToId("task", row.id),
    org: uuidToId("org", row.org_id),
    project: uuidToId("proj", row.project_id),
    user: row.principal,
    displayName: row.display_name,
    labels: row.labels,
    spec: row.spec,
    demand: demandOf(row),
    replicas: row.replicas,
    topology: row.topology,
    priority: row.priority,
    retry: { maxRetries: row.max_retries, retryOn: row.retry_on },
    maxRuntimeMs: Number(row.max_runtime_ms),
    stopGraceMs: Number(row.stop_grace_ms),
    preemptible: row.preemptible,
    preemptions: row.preemptions,
    lineage: row.lineage ?? undefined,
    carried: { gpuMs: Number(row.carried_gpu_ms), preemptions: row.carried_preemptions },
    state: row.state,
    epoch: Number(row.epoch),
    revision: Number(row.revision),
    queueReason: row.queue_reason ?? undefined,
    statusMessage: row.status_message,
    exitClass: row.exit_class ?? undefined,
    exitCode: row.exit_code ?? undefined,
    attemptCount: row.attempt_count,
    counts: { retries: row.retries, freeRequeues: row.free_requeues },
    notBeforeMs: Number(row.not_before_ms),
    excludedGpus: row.excluded_gpus.map((id) => uuidToId("gpu", id)),
    waitingFor: row.waiting_for,
    cancelRequested: row.cancel_requested,
    attempt: row.attempt_id === null ? undefined : uuidToId("att", row.attempt_id),
    array: arrayOf(row),
    progress: row.progress ?? undefined,
    manifestDigest: row.manifest_digest ?? undefined,
    traceparent: row.traceparent,
    createdMs: Number(row.created_ms),
    submittedMs: optional(row.submitted_ms),
    startedMs: optional(row.started_ms),
    endedMs: optional(row.ended_ms),
  };
}

/** Tasks that could be placed now or at a time, and arrays that have not ended, whose cancel may have to be folded. */
export const couldWait = `state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED')
  and (array_count is not null or (state = 'QUEUED' and waiting_for = 0 and not cancel_requested))`;

/** Plain tasks that never ran and wait for nothing but a place. */
export const fresh = `state = 'QUEUED' and attempt_count = 0 and array_count is null and not_before_ms = 0
  and waiting_for = 0 and not cancel_requested and carried_gpu_ms = 0 and carried_preemptions = 0
  and not exists (select 1 from tasks p where p.lineage = tasks.lineage and ${unfinished})`;

const selectByIds = statement<TaskRow>(
  "tasks_by_ids",
  "select * from tasks where id = any($1::uuid[]) order by id",
);
const lockByIds = statement<TaskRow>(
  "tasks_lock_by_ids",
  "select * from tasks where id = any($1::uuid[]) order by id for update",
);
const selectOne = statement<TaskRow>(
  "task_by_id",
  "select * from tasks where project_id = $1 and id = $2",
);
const lockOne = statement<TaskRow>(
  "task_lock_by_id",
  "select * from tasks where project_id = $1 and id = $2 for update",
);

/** The tasks of these ids, by id; unknown ids are left out. */
export async function readTasks(db: Querier, ids: readonly TaskId[]): Promise<StoredTask[]> {
  return (await db.query(selectByIds, [ids.map(idToUuid)])).map(toTask);
}

/** As {@link readTasks}, each row locked until the transaction ends. */
export async function lockTasks(tx: Querier, ids: readonly TaskId[]): Promise<StoredTask[]> {
  return (await tx.query(lockByIds, [ids.map(idToUuid)])).map(toTask);
}

/** One task of a project. */
export async function readTask(
  db: Querier,
  project: ProjectId,
  id: TaskId,
): Promise<StoredTask | undefined> {
  const [row] = await db.query(selectOne, [idToUuid(project), idToUuid(id)]);
  return row === undefined ? undefined : toTask(row);
}

/** As {@link readTask}, locked until the transaction ends. */
export async function lockTask(
  tx: Querier,
  project: ProjectId,
  id: TaskId,
): Promise<StoredTask | undefined> {
  const [row] = await tx.query(lockOne, [idToUuid(project), idToUuid(id)]);
  return row === undefined ? undefined : toTask(row);
}

/** A page of a project's tasks: `where` and `order` come from the filter's parser, never from text of the caller. */
export async function listTasks(
  db: Querier,
  query: { where: string; order: "asc" | "desc"; values: readonly unknown[]; limit: number },
): Promise<StoredTask[]> {
  const direction = query.order === "asc" ? "asc" : "desc";
  const text = `select * from tasks where ${query.where}
    order by created_ms ${direction}, id ${direction} limit ${Math.trunc(query.limit)}`;
  const rows = await db.query<TaskRow>({ name: "", text }, query.values);
  return rows.map(toTask);
}

/** What changes when a task moves: fields that are left out keep their value. */
export interface TaskChange {
  readonly id: TaskId;
  /** The state that the row had, or the last one passed in the same transaction. */
  readonly prevState: TaskState;
  readonly state: TaskState;
  readonly queueReason?: QueueReason | null;
  readonly statusMessage?: string;
  readonly exitClass?: ExitClass;
  readonly exitCode?: number | null;
  readonly retries?: number;
  readonly freeRequeues?: number;
  /** Preemptions in all. */
  readonly preemptions?: number;
  readonly notBeforeMs?: number;
  readonly excludeGpus?: readonly GpuId[];
  readonly waitingFor?: number;
  readonly cancelRequested?: boolean;
  readonly manifestDigest?: string;
  /** Progress message, serialized. */
  readonly progress?: Uint8Array;
  readonly submittedMs?: number;
  readonly startedMs?: number;
  readonly endedMs?: number;
  /** The whole array after the change. */
  readonly array?: ArraySets;
}

const update = statement(
  "tasks_update",
  `update tasks t set
     prev_state = case when t.state = c.state and c.prev_state = c.state then t.prev_state else c.prev_state end,
     state = c.state,
     revision = t.revision + 1,
     queue_reason = case when c.state <> 'QUEUED' then null else coalesce(c.queue_reason, t.queue_reason) end,
     status_message = coalesce(c.status_message, t.status_message),
     exit_class = coalesce(c.exit_class, t.exit_class),
     exit_code = case when c.exit_class is null then t.exit_code else c.exit_code end,
     retries = coalesce(c.retries, t.retries),
     free_requeues = coalesce(c.free_requeues, t.free_requeues),
     preemptions = coalesce(c.preemptions, t.preemptions),
     not_before_ms = coalesce(c.not_before_ms, t.not_before_ms),
     excluded_gpus = coalesce(c.excluded_gpus, t.excluded_gpus),
     waiting_for = coalesce(c.waiting_for, t.waiting_for),
     cancel_requested = coalesce(c.cancel_requested, t.cancel_requested),
     manifest_digest = coalesce(c.manifest_digest, t.manifest_digest),
     progress = coalesce(decode(c.progress, 'base64'), t.progress),
     submitted_ms = coalesce(t.submitted_ms, c.submitted_ms),
     started_ms = coalesce(t.started_ms, c.started_ms),
     ended_ms = coalesce(c.ended_ms, t.ended_ms),
     idx_pending = coalesce(c.idx_pending, t.idx_pending),
     idx_leased = coalesce(c.idx_leased, t.idx_leased),
     idx_succeeded = coalesce(c.idx_succeeded, t.idx_succeeded),
     idx_failed = coalesce(c.idx_failed, t.idx_failed),
     idx_cancelled = coalesce(c.idx_cancelled, t.idx_cancelled)
   from json_to_recordset($1::json) as c(
     id uuid, prev_state text, state text, queue_reason text, status_message text, exit_class text, exit_code int,
     retries int, free_requeues int, preemptions int, not_before_ms bigint, excluded_gpus uuid[], waiting_for int,
     cancel_requested boolean, manifest_digest text, progress text, submitted_ms bigint, started_ms bigint, ended_ms bigint,
     idx_pending int4multirange, idx_leased int4multirange, idx_succeeded int4multirange,
     idx_failed int4multirange, idx_cancelled int4multirange)
   where t.id = c.id`,
);

/** Writes changes of rows that the transaction has locked. Each raises its task's revision by one. */
export async function updateTasks(tx: Querier, changes: readonly TaskChange[]): Promise<void> {
  if (changes.length === 0) return;
  const rows = changes.map((change) => ({
    id: idToUuid(change.id),
    prev_state: change.prevState,
    state: change.state,
    queue_reason: change.queueReason,
    status_message: change.statusMessage,
    exit_class: change.exitClass,
    exit_code: change.exitCode,
    retries: change.retries,
    free_requeues: change.freeRequeues,
    preemptions: change.preemptions,
    not_before_ms: change.notBeforeMs,
    excluded_gpus: change.excludeGpus?.map(idToUuid),
    waiting_for: change.waitingFor,
    cancel_requested: change.cancelRequested,
    manifest_digest: change.manifestDigest,
    progress:
      change.progress === undefined ? undefined : Buffer.from(change.progress).toString("base64"),
    submitted_ms: change.submittedMs,
    started_ms: change.startedMs,
    ended_ms: change.endedMs,
    ...(change.array === undefined ? {} : arrayColumns(change.array)),
  }));
  await tx.query(update, [JSON.stringify(rows)]);
}

/** An array's sets as columns. */
export function arrayColumns(array: ArraySets) {
  return {
    idx_pending: formatMultirange(array.pending),
    idx_leased: formatMultirange(array.leased),
    idx_succeeded: formatMultirange(array.succeeded),
    idx_failed: formatMultirange(array.failed),
    idx_cancelled: formatMultirange(array.cancelled),
  };
}

const setProgress = statement<{ id: string }>(
  "tasks_set_progress",
  `update tasks t set progress = decode(c.progress, 'base64'), revision = t.revision + 1
   from json_to_recordset($1::json) as c(attempt_id uuid, epoch bigint, progress text)
     join attempts a on a.id = c.attempt_id and a.epoch = c.epoch and a.member = 0
   where t.id = a.task_id and t.attempt_id = a.id and a.node_id = $2
     and t.state in ('STARTING', 'RUNNING', 'STOPPING')
   returning t.id`,
);

/** Stores the newest progress of a node's attempts, of gangs that of member 0, that are their task's present one; answers those tasks. */
export async function storeProgress(
  db: Querier,
  node: NodeId,
  items: readonly { attempt: AttemptId; epoch: number; progress: Uint8Array }[],
): Promise<TaskId[]> {
  const rows = items.map((item) => ({
    attempt_id: idToUuid(item.attempt),
    epoch: item.epoch,
    progress: Buffer.from(item.progress).toString("base64"),
  }));
  const stored = await db.query(setProgress, [JSON.stringify(rows), idToUuid(node)]);
  return stored.map((row) => uuidToId("task", row.id));
}

const setReasons = statement(
  "tasks_set_reasons",
  `update tasks t set queue_reason = c.reason, status_message = c.message, revision = t.revision + 1
   from json_to_recordset($1::json) as c(id uuid, epoch bigint, reason text, message text)
   where t.id = c.id and t.epoch = c.epoch and t.state = 'QUEUED'
     and (t.queue_reason is distinct from c.reason or t.status_message is distinct from c.message)`,
);

/** Stores why queued tasks wait, where it has changed. */
export async function storeReasons(
  db: Querier,
  items: readonly { id: TaskId; epoch: number; reason: QueueReason; message: string }[],
): Promise<void> {
  const rows = items.map((item) => ({ ...item, id: idToUuid(item.id) }));
  await db.query(setReasons, [JSON.stringify(rows)]);
}
