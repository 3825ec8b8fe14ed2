import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { plainArray } from "./arrays.ts";

/** What a batch changes about a task. */
export interface TaskCostChange {
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** Newly charged. */
  readonly chargedNanos: bigint;
  /** True where the task's state is terminal now. */
  readonly ended: boolean;
}

const add = statement(
  "add_task_costs",
  `INSERT INTO task_costs AS c (task_id, org_id, project_id, charged, ended)
   SELECT task, org, project, charged, ended
   FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::boolean[]) AS n (task, org, project, charged, ended)
   ORDER BY task
   ON CONFLICT (task_id) DO UPDATE SET charged = c.charged + excluded.charged, ended = c.ended OR excluded.ended`,
);

/** Adds to the costs of tasks; each task at most once in a call. */
export async function addTaskCosts(tx: Tx, changes: readonly TaskCostChange[]): Promise<void> {
  if (changes.length === 0) return;
  await tx.query(add, [
    plainArray(changes.map((change) => idToUuid(change.task))),
    plainArray(changes.map((change) => idToUuid(change.org))),
    plainArray(changes.map((change) => idToUuid(change.project))),
    plainArray(changes.map((change) => change.chargedNanos)),
    plainArray(changes.map((change) => change.ended)),
  ]);
}

/** Cost of a task. */
export interface TaskCost {
  readonly chargedNanos: bigint;
  /** True once the task has ended and none of its attempts has an open hold. */
  readonly final: boolean;
}

const read = statement<{ task_id: string; charged: bigint; final: boolean }>(
  "read_task_costs",
  `SELECT task_id, charged,
     ended AND NOT EXISTS (SELECT FROM holds h WHERE h.task_id = c.task_id AND h.status = 'open') AS final
   FROM task_costs c WHERE project_id = $1 AND task_id = ANY ($2::uuid[])`,
);

/** Costs of those of these tasks that have any, or have ended. */
export async function readTaskCosts(
  tx: Tx,
  project: ProjectId,
  tasks: readonly TaskId[],
): Promise<Map<TaskId, TaskCost>> {
  const rows = await tx.query(read, [idToUuid(project), plainArray(tasks.map(idToUuid))]);
  return new Map(
    rows.map((row) => [
      uuidToId("task", row.task_id),
      { chargedNanos: row.charged, final: row.final },
    ]),
  );
}
