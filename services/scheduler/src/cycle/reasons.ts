import type { TaskId } from "@fastgpu/domain/ids";
import type { Plan, PlanTask, WaitReason } from "@fastgpu/scheduling/plan";
import type { QueueReason } from "../api/wire-states.ts";
import { storeReasons } from "../store/tasks.ts";
import type { CycleContext } from "./context.ts";

/** Stores why tasks wait, where that has changed. */
export async function writeReasons(
  c: CycleContext,
  {
    tasks,
    decided,
    blocked,
  }: {
    /** What the plan looked at. */
    tasks: readonly PlanTask[];
    decided: Plan;
    /** Tasks that wait for money, and what is missing. */
    blocked: ReadonlyMap<TaskId, string>;
  },
): Promise<void> {
  const changed: Parameters<typeof storeReasons>[1][number][] = [];
  for (const task of tasks) {
    const { id, epoch } = task;
    const money = blocked.get(id);
    const wait =
      money === undefined
        ? inWords(task, decided.reasons.get(id))
        : ({ reason: "BUDGET_EXHAUSTED", message: money } as const);
    if (wait === undefined) continue;
    const key = `${epoch} ${wait.reason} ${wait.message}`;
    if (c.told.get(id) === key) continue;
    c.told.set(id, key);
    changed.push({ id, epoch, reason: wait.reason, message: wait.message });
  }
  if (c.told.size > 2 * tasks.length + 1_000) {
    const inView = new Set(tasks.map(({ id }) => id));
    for (const id of c.told.keys()) if (!inView.has(id)) c.told.delete(id);
  }
  if (changed.length === 0) return;
  await storeReasons(c.core, changed);
  c.changed({ tasks: changed.map((each) => each.id), nodes: [] });
}

/** A task that was never tried waits for its asked start, not out a pause. */
function inWords(
  task: PlanTask,
  wait: WaitReason | undefined,
): { reason: QueueReason; message: string } | undefined {
  if (task.epoch > 0 || wait?.reason !== "RETRY_BACKOFF") return wait;
  const message = `starts after ${new Date(task.notBeforeMs).toISOString()}, as asked`;
  return { reason: "START_AFTER", message };
}
