import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type GpuId,
  type NodeId,
  type TaskId,
} from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";

const lock = statement<{
  id: string;
  node_id: string;
  attempt_id: string | null;
  reserved: boolean;
}>(
  "reservations_lock",
  `select id, node_id, attempt_id, coalesce(reserved_until_ms > $2, false) as reserved from gpus
   where id = any($1::uuid[]) and state in ('IDLE', 'LEASED') order by id for update`,
);
const reserve = statement(
  "reservations_make",
  `update gpus g set reserved_task_id = c.task_id, reserved_until_ms = c.until_ms
   from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as c(gpu_id, task_id, until_ms) where g.id = c.gpu_id`,
);
const release = statement(
  "reservations_release",
  `update gpus set reserved_task_id = null, reserved_until_ms = null where reserved_task_id = any($1::uuid[])`,
);
const releaseStale = statement<{ node_id: string }>(
  "reservations_release_stale",
  `with stale as (
     select g.id from gpus g left join tasks t on t.id = g.reserved_task_id
     where g.reserved_task_id is not null and (
       g.reserved_until_ms <= $1 or t.id is null or t.cancel_requested or t.waiting_for > 0
       or g.state in ('UNKNOWN', 'QUARANTINED')
       or case when t.array_count is null then t.state not in ('QUEUED', 'STOPPING', 'FINALIZING')
               else t.state not in ('QUEUED', 'SCHEDULED', 'STARTING', 'RUNNING') or isempty(t.idx_pending)
                 and not exists (select from attempts a where a.task_id = t.id and a.state in ('STOPPING', 'FINALIZING')) end)
     order by g.id for update of g)
   update gpus g set reserved_task_id = null, reserved_until_ms = null from stale where g.id = stale.id
   returning g.node_id`,
);

/** A GPU that may be kept for a task. */
export interface LockedGpu {
  readonly node: NodeId;
  /** Who holds it; undefined: nobody. */
  readonly attempt: AttemptId | undefined;
  /** Whether it is kept for a task already. */
  readonly reserved: boolean;
}

/** Those of the GPUs that are idle or held by an attempt, locked. */
export async function lockGpus(
  tx: Querier,
  gpus: readonly GpuId[],
  nowMs: number,
): Promise<ReadonlyMap<GpuId, LockedGpu>> {
  if (gpus.length === 0) return new Map();
  const rows = await tx.query(lock, [gpus.map(idToUuid), nowMs]);
  return new Map(
    rows.map(({ id, node_id, attempt_id, reserved }) => [
      uuidToId("gpu", id),
      {
        node: uuidToId("node", node_id),
        attempt: attempt_id === null ? undefined : uuidToId("att", attempt_id),
        reserved,
      },
    ]),
  );
}

/** Keeps GPUs that the transaction has locked for one task each, until a time. */
export async function storeReservations(
  tx: Querier,
  items: readonly { gpu: GpuId; task: TaskId; untilMs: number }[],
): Promise<void> {
  if (items.length === 0) return;
  await tx.query(reserve, [
    items.map(({ gpu }) => idToUuid(gpu)),
    items.map(({ task }) => idToUuid(task)),
    items.map(({ untilMs }) => untilMs),
  ]);
}

/** Gives up all that is kept for tasks: they have what they waited for. */
export async function releaseReservations(tx: Querier, tasks: readonly TaskId[]): Promise<void> {
  if (tasks.length > 0) await tx.query(release, [tasks.map(idToUuid)]);
}

/**
 * Gives up what is kept for longer than its time, for tasks that neither wait nor stop (to go on elsewhere), and of GPUs
 * that will not be free soon.
 * Answers their nodes.
 */
export async function releaseStaleReservations(db: Querier, nowMs: number): Promise<NodeId[]> {
  const rows = await db.query(releaseStale, [nowMs]);
  return [...new Set(rows.map((row) => uuidToId("node", row.node_id)))];
}
