import { idToUuid, uuidToId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { PlanQueue } from "@fastgpu/scheduling/plan";

/** Whose queue it is: a project's, or the organisation's own where there is no project. */
export interface QueueOwner {
  readonly org: OrgId;
  readonly project: ProjectId | undefined;
}

/** A queue as the database has it. */
export interface StoredQueue extends PlanQueue {
  readonly revision: number;
  /** Undefined where it was never changed. */
  readonly updatedMs: number | undefined;
}

interface QueueRow {
  org_id: string;
  project_id: string;
  weight: number;
  guaranteed_gpus: number;
  limit_gpus: number | null;
  revision: bigint;
  updated_ms: bigint;
}

const toQueue = (row: QueueRow): StoredQueue => ({
  org: uuidToId("org", row.org_id),
  project: row.project_id === row.org_id ? undefined : uuidToId("proj", row.project_id),
  user: undefined,
  models: {},
  weight: row.weight,
  guaranteedGpus: row.guaranteed_gpus,
  limitGpus: row.limit_gpus ?? undefined,
  revision: Number(row.revision),
  updatedMs: Number(row.updated_ms),
});

/** What who has no row is due. */
export const unchangedQueue = (owner: QueueOwner): StoredQueue => ({
  ...owner,
  user: undefined,
  models: {},
  weight: 1,
  guaranteedGpus: 0,
  limitGpus: undefined,
  revision: 0,
  updatedMs: undefined,
});

/** The organisation's uuid stands where it has no project. */
const keyOf = ({ org, project }: QueueOwner): [string, string] => [
  idToUuid(org),
  idToUuid(project ?? org),
];

/** Where a page of queues goes on: after this row. */
export const cursorOfQueue = (queue: QueueOwner): string => keyOf(queue)[1];

const selectAll = statement<QueueRow>(
  "queues_all",
  "select * from queues order by org_id, project_id",
);
const selectOne = statement<QueueRow>(
  "queues_one",
  "select * from queues where org_id = $1 and project_id = $2",
);
const selectPage = statement<QueueRow>(
  "queues_page",
  "select * from queues where org_id = $1 and project_id > $2 order by project_id limit $3",
);
const insertOne = statement(
  "queues_insert",
  `insert into queues (org_id, project_id, weight, guaranteed_gpus, limit_gpus, updated_ms)
   values ($1, $2, 1, 0, null, $3) on conflict do nothing`,
);
const lockOne = statement<QueueRow>(
  "queues_lock_one",
  "select * from queues where org_id = $1 and project_id = $2 for update",
);
const lockLimited = statement<QueueRow>(
  "queues_lock_limited",
  `select * from queues where project_id = any($1::uuid[]) and limit_gpus is not null
   order by org_id, project_id for update`,
);
const updateOne = statement(
  "queues_update",
  `update queues set weight = $3, guaranteed_gpus = $4, limit_gpus = $5, revision = revision + 1, updated_ms = $6
   where org_id = $1 and project_id = $2`,
);
const countHeld = statement<{ held: bigint }>(
  "queues_held",
  `select count(*) as held from allocations
   where org_id = $1 and ($1::uuid = $2::uuid or project_id = $2) and released_ms is null`,
);
const selectAttained = statement<{ task_id: string; gpu_ms: bigint }>(
  "queues_attained",
  `select a.task_id, sum(al.cut_ms - al.from_ms)::bigint as gpu_ms
   from attempts a join allocations al on al.attempt_id = a.id and al.member = a.member
   where a.task_id = any($1::uuid[]) group by a.task_id`,
);

/** Every queue that was ever changed. */
export async function readQueues(db: Querier): Promise<StoredQueue[]> {
  return (await db.query(selectAll, [])).map(toQueue);
}

/** One queue; undefined where it was never changed. */
export async function readQueue(db: Querier, owner: QueueOwner): Promise<StoredQueue | undefined> {
  const [row] = await db.query(selectOne, keyOf(owner));
  return row === undefined ? undefined : toQueue(row);
}

/** A page of an organisation's queues by id, after a cursor. */
export async function listQueues(
  db: Querier,
  org: OrgId,
  page: { after: string | undefined; limit: number },
): Promise<StoredQueue[]> {
  const after = page.after ?? "00000000-0000-0000-0000-000000000000";
  return (await db.query(selectPage, [idToUuid(org), after, page.limit])).map(toQueue);
}

/** One queue, its row made where there is none, locked until the transaction ends. */
export async function lockQueue(
  tx: Querier,
  owner: QueueOwner,
  nowMs: number,
): Promise<StoredQueue> {
  await tx.query(insertOne, [...keyOf(owner), nowMs]);
  const [row] = await tx.query(lockOne, keyOf(owner));
  return row === undefined ? unchangedQueue(owner) : toQueue(row);
}

/** Those of the queues that have a limit, locked until the transaction ends. */
export async function lockLimitedQueues(
  tx: Querier,
  owners: readonly QueueOwner[],
): Promise<StoredQueue[]> {
  const keys = [...new Set(owners.map((owner) => keyOf(owner)[1]))];
  return keys.length === 0 ? [] : (await tx.query(lockLimited, [keys])).map(toQueue);
}

/** Writes a queue that the transaction has locked. */
export async function storeQueue(
  tx: Querier,
  queue: Omit<PlanQueue, "user" | "models">,
  nowMs: number,
): Promise<void> {
  const { weight, guaranteedGpus, limitGpus } = queue;
  await tx.query(updateOne, [...keyOf(queue), weight, guaranteedGpus, limitGpus ?? null, nowMs]);
}

/** GPUs that a queue holds now. */
export async function countHeldGpus(db: Querier, owner: QueueOwner): Promise<number> {
  const [row] = await db.query(countHeld, keyOf(owner));
  return Number(row?.held ?? 0);
}

/** GPU-milliseconds that the attempts of tasks have had; tasks without any are left out. */
export async function readAttained(
  db: Querier,
  tasks: readonly TaskId[],
): Promise<ReadonlyMap<TaskId, number>> {
  if (tasks.length === 0) return new Map();
  const rows = await db.query(selectAttained, [tasks.map(idToUuid)]);
  return new Map(rows.map((row) => [uuidToId("task", row.task_id), Number(row.gpu_ms)]));
}
