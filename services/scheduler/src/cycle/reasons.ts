import type { TaskId } from "@fastgpu/domain/ids";
import type { Plan } from "@fastgpu/scheduling/plan";
import { storeReasons } from "../store/tasks.ts";
import type { CycleContext } from "./context.ts";

/** Stores why tasks wait, where that has changed. */
export async function writeReasons(
  c: CycleContext,
  decided: Plan,
  blocked: ReadonlyMap<TaskId, string>,
): Promise<void> {
  const changed: Parameters<typeof storeReasons>[1][number][] = [];
  for (const [id, { plan: task, reason, message }] of c.mirror.waiting) {
    const money = blocked.get(id);
    const wait =
      money === undefined
        ? decided.reasons.get(id)
        : ({ reason: "BUDGET_EXHAUSTED", message: money } as const);
    if (wait === undefined || (wait.reason === reason && wait.message === message)) continue;
    changed.push({ id, epoch: task.epoch, reason: wait.reason, message: wait.message });
    c.mirror.noteReason(id, wait.reason, wait.message);
  }
  if (changed.length === 0) return;
  await storeReasons(c.core, changed);
  c.changed({ tasks: changed.map((each) => each.id), nodes: [] });
}
