import { idToUuid, uuidToId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { eventArrays, outboxColumns, outboxUnnest, type NewEvent } from "@fastgpu/postgres/outbox";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { RequestBody, RequestKey } from "@fastgpu/postgres/requests";
import type { QueueReason } from "../api/wire-states.ts";
import { lineageOf } from "../spec/lineage.ts";
import type { ParsedTask } from "../spec/task-spec.ts";

/** A task to store, with everything that goes into the same transaction. */
export interface NewTask {
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The principal who submits it. */
  readonly user: string;
  readonly task: ParsedTask;
  readonly state: "DRAFT" | "QUEUED";
  /** Dependencies that are not met yet. */
  readonly waitingFor: number;
  readonly nowMs: number;
  /** Since when it stands in line, where that is not now: the place of a task that it replaces. */
  readonly submittedMs?: number;
  readonly traceparent: string;
  /** The request id it answers, where the caller gave one. */
  readonly request: { readonly key: RequestKey; readonly body: RequestBody } | undefined;
  readonly events: readonly NewEvent[];
}

/** Why a task waits when it comes into line. */
export function firstReason(of: {
  readonly waitingFor: number;
  readonly notBeforeMs: number;
  readonly nowMs: number;
}): QueueReason {
  if (of.waitingFor > 0) return "DEPENDENCY";
  return of.notBeforeMs > of.nowMs ? "START_AFTER" : "PENDING";
}

const insert = statement<{ id: string }>(
  "submits_insert",
  `with input as (
     select * from json_to_recordset($1::json) as x(
       id uuid, org_id uuid, project_id uuid, display_name text, labels jsonb, spec text, runtime text, priority int,
       gpu_count int, gpu_models text[], gpu_min_memory_mib bigint, simulated_ok boolean, cpu_millis bigint,
       memory_mib bigint, disk_mib bigint, max_retries int, retry_on text[], max_runtime_ms bigint,
       stop_grace_ms bigint, state text, queue_reason text, waiting_for int, array_count int, array_parallelism int,
       traceparent text, created_ms bigint, submitted_ms bigint, replicas int, topology jsonb, not_before_ms bigint,
       preemptible boolean, principal text, lineage uuid, max_cost_nanos bigint, method text, request_id uuid, body_sha256 text, body text)
   ), claimed as (
     insert into requests (org_id, project_id, method, request_id, body_sha256, body, response, created_ms)
     select org_id, project_id, method, request_id, decode(body_sha256, 'hex'), body, uuid_send(id), created_ms
     from input where request_id is not null
     on conflict do nothing returning response
   ), fresh as (
     select * from input where request_id is null or uuid_send(id) in (select response from claimed)
   ), stored as (
     insert into tasks (id, org_id, project_id, display_name, labels, spec, runtime, priority, gpu_count, gpu_models,
       gpu_min_memory_mib, simulated_ok, cpu_millis, memory_mib, disk_mib, max_retries, retry_on, max_runtime_ms,
       stop_grace_ms, state, queue_reason, waiting_for, array_count, array_parallelism, idx_pending, idx_leased,
       idx_succeeded, idx_failed, idx_cancelled, traceparent, created_ms, submitted_ms, replicas, topology,
       not_before_ms, preemptible, principal, lineage, max_cost_nanos)
     select id, org_id, project_id, display_name, labels, decode(spec, 'base64'), runtime, priority, gpu_count,
       gpu_models, gpu_min_memory_mib, simulated_ok, cpu_millis, memory_mib, disk_mib, max_retries, retry_on,
       max_runtime_ms, stop_grace_ms, state, queue_reason, waiting_for, array_count, array_parallelism,
       case when array_count is not null then int4multirange(int4range(0, array_count)) end,
       case when array_count is not null then '{}'::int4multirange end,
       case when array_count is not null then '{}'::int4multirange end,
       case when array_count is not null then '{}'::int4multirange end,
       case when array_count is not null then '{}'::int4multirange end,
       traceparent, created_ms, submitted_ms, replicas, topology, not_before_ms, preemptible, principal, lineage,
       max_cost_nanos
     from fresh returning id
   ), told as (
     insert into outbox (${outboxColumns})
     select ${outboxColumns} from ${outboxUnnest(2)} as e(${outboxColumns})
     where aggregate in (select name from unnest($11::uuid[], $12::text[]) as n(id, name) join stored using (id))
   )
   select id from stored`,
);

/**
 * Stores tasks, their request ids and their events in one statement. Answers the ids that were stored; a task whose
 * request id was taken is left out, with its events.
 */
export async function insertTasks(
  db: Querier,
  tasks: readonly NewTask[],
): Promise<ReadonlySet<TaskId>> {
  const rows = await db.query(insert, [
    JSON.stringify(tasks.map(toRow)),
    ...eventArrays(tasks.flatMap((task) => task.events)),
    tasks.flatMap((task) => [idToUuid(task.id), idToUuid(task.id)]),
    tasks.flatMap((task) => [task.id, `projects/${task.project}/tasks/${task.id}`]),
  ]);
  return new Set(rows.map((row) => uuidToId("task", row.id)));
}

function toRow(of: NewTask) {
  const { task } = of;
  const { demand } = task;
  return {
    id: idToUuid(of.id),
    org_id: idToUuid(of.org),
    project_id: idToUuid(of.project),
    display_name: task.displayName,
    labels: task.labels,
    spec: Buffer.from(task.spec).toString("base64"),
    runtime: demand.runtime,
    priority: task.priority,
    gpu_count: demand.gpuCount,
    gpu_models: demand.gpuModels,
    gpu_min_memory_mib: demand.gpuMinMemoryMib,
    simulated_ok: demand.simulatedOk,
    cpu_millis: demand.cpuMillis,
    memory_mib: demand.memoryMib,
    disk_mib: demand.diskMib,
    max_retries: task.retry.maxRetries,
    retry_on: task.retry.retryOn,
    max_runtime_ms: task.maxRuntimeMs,
    stop_grace_ms: task.stopGraceMs,
    state: of.state,
    queue_reason:
      of.state === "DRAFT" ? null : firstReason({ ...of, notBeforeMs: task.startAfterMs }),
    waiting_for: of.waitingFor,
    replicas: task.replicas,
    topology: task.topology,
    array_count: task.array?.count ?? null,
    array_parallelism: task.array?.parallelism ?? null,
    traceparent: of.traceparent,
    created_ms: of.nowMs,
    submitted_ms: of.state === "DRAFT" ? null : (of.submittedMs ?? of.nowMs),
    not_before_ms: task.startAfterMs,
    preemptible: task.preemptible,
    principal: of.user,
    lineage: lineageOf(of),
    max_cost_nanos: task.maxCostNanos?.toString() ?? null,
    method: of.request?.key.method ?? null,
    request_id: of.request?.key.requestId ?? null,
    body_sha256: of.request?.body.sha256.toString("hex") ?? null,
    body: of.request?.body.text ?? null,
  };
}

const findRequests = statement<{
  project_id: string;
  method: string;
  request_id: string;
  body_sha256: Buffer;
  body: string;
  response: Buffer;
}>(
  "submits_find_requests",
  `select r.project_id, r.method, r.request_id, r.body_sha256, r.body, r.response from requests r
   join unnest($1::uuid[], $2::text[], $3::uuid[]) as c(project_id, method, request_id)
     using (project_id, method, request_id)`,
);

/** A request id that was used before. */
export interface UsedRequest {
  readonly body_sha256: Buffer;
  readonly body: string;
  readonly response: Buffer;
}

/** The rows of request ids, by `project method request_id` in lower case. */
export async function readRequests(
  db: Querier,
  keys: readonly RequestKey[],
): Promise<ReadonlyMap<string, UsedRequest>> {
  const rows = await db.query(findRequests, [
    keys.map((key) => idToUuid(key.project)),
    keys.map((key) => key.method),
    keys.map((key) => key.requestId),
  ]);
  return new Map(
    rows.map((row) => [`${row.project_id} ${row.method} ${row.request_id}`, row] as const),
  );
}

/** The key of {@link readRequests}' answer. */
export function requestKeyText(key: RequestKey): string {
  return `${idToUuid(key.project)} ${key.method} ${key.requestId.toLowerCase()}`;
}

/** The task id in a stored response. */
export function taskOfResponse(response: Buffer): TaskId {
  return uuidToId("task", response.toString("hex"));
}
