import { idToUuid, uuidToId, type OrgId, type ProjectId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { PlanQueue } from "@fastgpu/scheduling/plan";
import { nil } from "./columns.ts";

/** Whose queue it is: a user's in a project, a project's, or the organisation's own where there is no project. */
export interface QueueOwner {
  readonly org: OrgId;
  readonly project: ProjectId | undefined;
  /** Only with a project. */
  readonly user: string | undefined;
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
  principal: string;
  models: Record<string, { guaranteed: number; limit?: number }>;
  weight: number;
  guaranteed_gpus: number;
  limit_gpus: number | null;
  revision: bigint;
  updated_ms: bigint;
}

const toQueue = (row: QueueRow): StoredQueue => ({
  org: uuidToId("org", row.org_id),
  project: row.project_id === row.org_id ? undefined : uuidToId("proj", row.project_id),
  user: row.principal === "" ? undefined : row.principal,
  weight: row.weight,
  guaranteedGpus: row.guaranteed_gpus,
  limitGpus: row.limit_gpus ?? undefined,
  models: Object.fromEntries(
    Object.entries(row.models).map(([model, { guaranteed, limit }]) => [
      model,
      { guaranteedGpus: guaranteed, limitGpus: limit },
    ]),
  ),
  revision: Number(row.revision),
  updatedMs: Number(row.updated_ms),
});

/** What who has no row is due. */
export const unchangedQueue = (owner: QueueOwner): StoredQueue => ({
  ...owner,
  weight: 1,
  guaranteedGpus: 0,
  limitGpus: undefined,
  models: {},
  revision: 0,
  updatedMs: undefined,
});

/** The organisation's uuid stands where it has no project. */
const keyOf = ({ org, project, user }: QueueOwner): [string, string, string] => [
  idToUuid(org),
  idToUuid(project ?? org),
  user ?? "",
];

/** Where a page of queues goes on: after this row. */
export const cursorOfQueue = (queue: QueueOwner): string => keyOf(queue).slice(1).join(" ");

const selectAll = statement<QueueRow>(
  "queues_all",
  "select * from queues order by org_id, project_id, principal",
);
const selectOne = statement<QueueRow>(
  "queues_one",
  "select * from queues where org_id = $1 and project_id = $2 and principal = $3",
);
const selectPage = statement<QueueRow>(
  "queues_page",
  `select * from queues where org_id = $1 and (project_id, principal) > ($2, $3)
   order by project_id, principal limit $4`,
);
const insertOne = statement(
  "queues_insert",
  `insert into queues (org_id, project_id, principal, weight, guaranteed_gpus, limit_gpus, updated_ms)
   values ($1, $2, $3, 1, 0, null, $4) on conflict do nothing`,
);
const lockOne = statement<QueueRow>(
  "queues_lock_one",
  "select * from queues where org_id = $1 and project_id = $2 and principal = $3 for update",
);
const lockLimited = statement<QueueRow>(
  "queues_lock_limited",
  `select q.* from queues q
     join unnest($1::uuid[], $2::text[]) as c(project_id, principal) using (project_id, principal)
   where q.limit_gpus is not null or jsonb_path_exists(q.models, '$.*.limit')
   order by q.org_id, q.project_id, q.principal for update of q`,
);
const updateOne = statement(
  "queues_update",
  `update queues set weight = $4, guaranteed_gpus = $5, limit_gpus = $6, models = $7, revision = revision + 1,
     updated_ms = $8
   where org_id = $1 and project_id = $2 and principal = $3`,
);
const countHeld = statement<{
  org_id: string;
  project_id: string;
  principal: string;
  model: string;
  held: bigint;
}>(
  "queues_held",
  `select q.org_id, q.project_id, q.principal, g.model, count(*) as held
   from unnest($1::uuid[], $2::uuid[], $3::text[]) as q(org_id, project_id, principal)
     join allocations l on l.released_ms is null and l.org_id = q.org_id
       and (q.project_id = q.org_id or l.project_id = q.project_id) and (q.principal = '' or l.principal = q.principal)
     join gpus g on g.id = l.gpu_id
   group by q.org_id, q.project_id, q.principal, g.model`,
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
  const [project = "", user = ""] = page.after?.split(/ (.*)/s) ?? [nil];
  return (await db.query(selectPage, [idToUuid(org), project, user, page.limit])).map(toQueue);
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
  const keys = new Map(owners.map(keyOf).map((key) => [key.join(" "), key]));
  if (keys.size === 0) return [];
  const rows = await tx.query(lockLimited, [
    [...keys.values()].map(([, project]) => project),
    [...keys.values()].map(([, , user]) => user),
  ]);
  return rows.map(toQueue);
}

/** Writes a queue that the transaction has locked. */
export async function storeQueue(tx: Querier, queue: PlanQueue, nowMs: number): Promise<void> {
  const { weight, guaranteedGpus, limitGpus } = queue;
  const models = Object.fromEntries(
    Object.entries(queue.models).map(([model, share]) => [
      model,
      { guaranteed: share.guaranteedGpus, limit: share.limitGpus },
    ]),
  );
  const values = [weight, guaranteedGpus, limitGpus ?? null, JSON.stringify(models), nowMs];
  await tx.query(updateOne, [...keyOf(queue), ...values]);
}

/** GPUs that a queue holds now. */
export interface HeldGpus {
  readonly total: number;
  readonly models: Readonly<Record<string, number>>;
}

/** GPUs that each of the queues holds now, in their order. */
export async function countHeldGpus(
  db: Querier,
  owners: readonly QueueOwner[],
): Promise<HeldGpus[]> {
  if (owners.length === 0) return [];
  const keys = owners.map(keyOf);
  const distinct = [...new Map(keys.map((key) => [key.join(" "), key])).values()];
  const rows = await db.query(
    countHeld,
    [0, 1, 2].map((at) => distinct.map((key) => key[at])),
  );
  const byOwner = Map.groupBy(
    rows,
    ({ org_id, project_id, principal }) => `${org_id} ${project_id} ${principal}`,
  );
  return keys.map((key) => {
    const held = (byOwner.get(key.join(" ")) ?? []).map(
      ({ model, held: count }) => [model, Number(count)] as const,
    );
    return {
      total: held.reduce((sum, [, count]) => sum + count, 0),
      models: Object.fromEntries(held),
    };
  });
}
