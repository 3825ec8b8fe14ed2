import type { TaskId } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import type { StoredTask } from "../store/tasks.ts";
import { foldArrays } from "./arrays.ts";
import { apply, type CycleContext } from "./context.ts";
import { resolveDependents } from "./dependents.ts";

/** Remembers the arrays whose cancel is to be folded. */
export function noteCancelled(c: CycleContext, tasks: readonly StoredTask[]): void {
  for (const task of tasks) {
    const ended = task.endedMs !== undefined;
    if (task.array !== undefined && task.cancelRequested && !ended) c.cancelledArrays.add(task.id);
  }
}

/** Folds ended ranges into their arrays, and ended parents into their dependents. */
export async function foldEnded(
  c: CycleContext,
  tasks: readonly StoredTask[],
  nowMs: number,
  swept: boolean,
): Promise<void> {
  const at = { leaderEpoch: c.leaderEpoch, nowMs };
  const ended = tasks.filter((task) => task.endedMs !== undefined).map((task) => task.id);
  const arrays =
    swept || tasks.some((task) => task.array !== undefined) || c.cancelledArrays.size > 0;
  if (arrays) {
    const cancelled = [...c.cancelledArrays];
    const folded = await transaction(c.core, (tx) => foldArrays(tx, { ...at, cancelled }));
    for (const id of cancelled) c.cancelledArrays.delete(id);
    ended.push(...folded.ended);
    await apply(c, { tasks: folded.changed, nodes: [] });
  }
  await unlock(c, ended, nowMs);
}

/** Decides the dependents of ended tasks, and of those that fail by it. */
export async function unlock(
  c: CycleContext,
  ended: readonly TaskId[],
  nowMs: number,
): Promise<void> {
  for (let parents = ended; parents.length > 0;) {
    const at = { leaderEpoch: c.leaderEpoch, nowMs };
    const next = parents;
    const resolved = await transaction(c.core, (tx) => resolveDependents(tx, next, at));
    await apply(c, { tasks: resolved.changed, nodes: [] });
    parents = resolved.failed;
  }
}
