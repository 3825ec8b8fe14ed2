import type { TaskId } from "@fastgpu/domain/ids";
import type { Plan, WaitReason } from "@fastgpu/scheduling/plan";
import type { QueueReason } from "../api/wire-states.ts";
import { storeReasons } from "../store/tasks.ts";
import type { CycleContext } from "./context.ts";
import type { Waiting } from "./mirror.ts";

/** Stores why tasks wait, where that has changed. */
export async function writeReasons(
  c: CycleContext,
  decided: Plan,
  blocked: ReadonlyMap<TaskId, string>,
): Promise<void> {
  const changed: Parameters<typeof storeReasons>[1][number][] = [];
  for (const [id, each] of c.mirror.waiting) {
    const { plan: task, reason, message } = each;
    const money = blocked.get(id);
    const wait =
      money === undefined
        ? inWords(each, decided.reasons.get(id))
        : ({ reason: "BUDGET_EXHAUSTED", message: money } as const);
    if (wait === undefined || (wait.reason === reason && wait.message === message)) continue;
    changed.push({ id, epoch: task.epoch, reason: wait.reason, message: wait.message });
    c.mirror.noteReason(id, wait.reason, wait.message);
  }
  if (changed.length === 0) return;
  await storeReasons(c.core, changed);
  c.changed({ tasks: changed.map((each) => each.id), nodes: [] });
}

/** A task that was never tried waits for its asked start, not out a pause. */
function inWords(
  { tried, plan }: Waiting,
  wait: WaitReason | undefined,
): { reason: QueueReason; message: string } | undefined {
  if (tried || wait?.reason !== "RETRY_BACKOFF") return wait;
  const message = `starts after ${new Date(plan.notBeforeMs).toISOString()}, as asked`;
  return { reason: "START_AFTER", message };
}
