import { idToUuid, uuidToId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import type { TaskState } from "@fastgpu/domain/states";
import { statement, type Querier } from "@fastgpu/postgres/pool";

/** What a parent must become. */
export type Condition = "SUCCEEDED" | "FAILED" | "ENDED";

/** A dependency that waits for its parent. */
export interface StoredDependency {
  readonly task: TaskId;
  readonly parent: TaskId;
  readonly condition: Condition;
}

interface DependencyRow {
  task_id: string;
  parent_id: string;
  condition: Condition;
}

const toDependency = (row: DependencyRow): StoredDependency => ({
  task: uuidToId("task", row.task_id),
  parent: uuidToId("task", row.parent_id),
  condition: row.condition,
});

const lockParents = statement<{ id: string; state: TaskState }>(
  "dependencies_lock_parents",
  "select id, state from tasks where project_id = $1 and id = any($2::uuid[]) order by id for share",
);
const insert = statement(
  "dependencies_insert",
  `insert into task_dependencies (task_id, parent_id, org_id, project_id, condition, resolved)
   select $1, c.parent_id, $2, $3, c.condition, c.resolved
   from unnest($4::uuid[], $5::text[], $6::boolean[]) as c(parent_id, condition, resolved)`,
);
const selectOpen = statement<DependencyRow>(
  "dependencies_open_of_parents",
  `select task_id, parent_id, condition from task_dependencies
   where parent_id = any($1::uuid[]) and not resolved order by task_id, parent_id`,
);
const selectEndedOpen = statement<DependencyRow & { state: TaskState }>(
  "dependencies_open_of_ended",
  `select d.task_id, d.parent_id, d.condition from task_dependencies d join tasks p on p.id = d.parent_id
   where not d.resolved and p.state in ('SUCCEEDED', 'FAILED', 'CANCELLED') limit 1000`,
);
const resolve = statement(
  "dependencies_resolve",
  `update task_dependencies d set resolved = true from unnest($1::uuid[], $2::uuid[]) as c(task_id, parent_id)
   where d.task_id = c.task_id and d.parent_id = c.parent_id`,
);

/** States of the parents that exist in the project, each locked FOR SHARE so that none ends meanwhile. */
export async function lockParentStates(
  tx: Querier,
  project: ProjectId,
  parents: readonly TaskId[],
): Promise<ReadonlyMap<TaskId, TaskState>> {
  const rows = await tx.query(lockParents, [idToUuid(project), parents.map(idToUuid)]);
  return new Map(rows.map((row) => [uuidToId("task", row.id), row.state]));
}

/** Stores the dependencies of one task. */
export async function insertDependencies(
  tx: Querier,
  of: { task: TaskId; org: OrgId; project: ProjectId },
  items: readonly { parent: TaskId; condition: Condition; resolved: boolean }[],
): Promise<void> {
  await tx.query(insert, [
    idToUuid(of.task),
    idToUuid(of.org),
    idToUuid(of.project),
    items.map((item) => idToUuid(item.parent)),
    items.map((item) => item.condition),
    items.map((item) => item.resolved),
  ]);
}

/** Unresolved dependencies on these parents. */
export async function readOpenDependencies(tx: Querier, parents: readonly TaskId[]) {
  return (await tx.query(selectOpen, [parents.map(idToUuid)])).map(toDependency);
}

/** Unresolved dependencies on parents that have ended, at most 1,000: what a crash may have left. */
export async function readMissedDependencies(db: Querier): Promise<StoredDependency[]> {
  return (await db.query(selectEndedOpen)).map(toDependency);
}

/** Marks dependencies as resolved. */
export async function storeResolved(
  tx: Querier,
  items: readonly StoredDependency[],
): Promise<void> {
  await tx.query(resolve, [
    items.map((item) => idToUuid(item.task)),
    items.map((item) => idToUuid(item.parent)),
  ]);
}

const selectParents = statement<{ parent_id: string }>(
  "dependencies_parents",
  "select parent_id from task_dependencies where task_id = $1 and not resolved",
);

/** Parents that a task still waits for. */
export async function readParents(db: Querier, task: TaskId): Promise<TaskId[]> {
  const rows = await db.query(selectParents, [idToUuid(task)]);
  return rows.map((row) => uuidToId("task", row.parent_id));
}

/** A parent that has not ended as asked. */
export interface UnmetParent {
  readonly parent: TaskId;
  readonly condition: Condition;
  readonly state: TaskState;
}

const selectUnmet = statement<DependencyRow & { state: TaskState }>(
  "dependencies_unmet",
  `select d.task_id, d.parent_id, d.condition, p.state from task_dependencies d join tasks p on p.id = d.parent_id
   where d.task_id = $1 and not d.resolved order by d.parent_id`,
);

/** What a task still waits for, with where each stands. */
export async function readUnmet(db: Querier, task: TaskId): Promise<UnmetParent[]> {
  const rows = await db.query(selectUnmet, [idToUuid(task)]);
  return rows.map((row) => ({
    parent: uuidToId("task", row.parent_id),
    condition: row.condition,
    state: row.state,
  }));
}
