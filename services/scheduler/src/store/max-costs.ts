import { idToUuid, uuidToId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";

const select = statement<{ id: string; max_cost_nanos: bigint }>(
  "tasks_max_costs",
  "select id, max_cost_nanos from tasks where id = any($1::uuid[]) and max_cost_nanos is not null",
);

/** The most that tasks may cost in all, in nano-USD, for those of these that have a bound. */
export async function readMaxCosts(
  db: Querier,
  tasks: readonly TaskId[],
): Promise<ReadonlyMap<TaskId, bigint>> {
  if (tasks.length === 0) return new Map();
  const rows = await db.query(select, [tasks.map(idToUuid)]);
  return new Map(rows.map((row) => [uuidToId("task", row.id), row.max_cost_nanos]));
}
