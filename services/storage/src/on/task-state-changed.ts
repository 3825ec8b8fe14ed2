import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Clock } from "@fastgpu/domain/clock";
import { parseId } from "@fastgpu/domain/ids";
import { on } from "@fastgpu/events/consumer";
import type { EventHandler } from "@fastgpu/events/consumer";
import { topics } from "@fastgpu/events/topics";
import { expireCheckpoints } from "../store/checkpoints.ts";

/** Checkpoints of a failed task stay this long, to be looked at or resumed from by hand; in milliseconds. */
const failedKeepMs = 7 * 24 * 3_600_000;

/** How long the checkpoints of a task in this state are still kept; undefined: it may go on from them. */
function keepMs(state: TaskState): number | undefined {
  if (state === TaskState.SUCCEEDED || state === TaskState.CANCELLED) return 0;
  return state === TaskState.FAILED ? failedKeepMs : undefined;
}

/** Lets the checkpoints of ended tasks go. */
export function onTaskStateChanged({ clock }: { readonly clock: Clock }): EventHandler {
  return on(topics.taskStateChanged, async (tx, received) => {
    const nowMs = clock.nowMs();
    const ends = received.flatMap(({ event: { project }, payload }) => {
      const task = parseId("task", payload.task);
      const kept = keepMs(payload.to);
      if (task === undefined || project === undefined || kept === undefined) return [];
      return [{ project, task, atMs: nowMs + kept }];
    });
    await expireCheckpoints(tx, ends);
  });
}
