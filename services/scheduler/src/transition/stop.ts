import type { ExitClass } from "@fastgpu/domain/states";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { AttemptChange, StoredAttempt } from "../store/attempts.ts";
import { updateTasks, type StoredTask, type TaskChange } from "../store/tasks.ts";
import { taskMoved } from "./events.ts";

const stoppable: readonly StoredAttempt["state"][] = ["LEASED", "STARTING", "RUNNING"];

/** Those of these attempts and members that can be told to stop: neither told yet nor past it. */
export function stoppableOf(attempts: readonly StoredAttempt[]): StoredAttempt[] {
  return attempts.filter(({ state }) => stoppable.includes(state));
}

/** Tells them to stop for this reason: the class they end with unless they exit before they hear of it. */
export function stopChanges(
  attempts: readonly StoredAttempt[],
  stopClass: ExitClass,
  nowMs: number,
): AttemptChange[] {
  return attempts.map(({ id, member, state: prevState }) => ({
    ...{ id, member, prevState, state: "STOPPING", stopClass, stopMs: nowMs },
  }));
}

const stoppableTask: readonly StoredTask["state"][] = ["SCHEDULED", "STARTING", "RUNNING"];

/**
 * Moves locked tasks whose attempts were told to stop, with what their owners hear of it. An array has no state of its
 * own to stop in: its elements that had not ended go back to those that wait.
 */
export async function stopTasks(
  tx: Tx,
  stops: readonly { readonly task: StoredTask; readonly message: string }[],
  nowMs: number,
): Promise<void> {
  const moved = stops.flatMap(({ task, message }) => {
    if (task.array !== undefined || !stoppableTask.includes(task.state)) return [];
    const { id, state: prevState } = task;
    const change: TaskChange = { id, prevState, state: "STOPPING", statusMessage: message };
    return [{ task, change }];
  });
  await updateTasks(
    tx,
    moved.map(({ change }) => change),
  );
  await appendEvents(
    tx,
    moved.flatMap(({ task, change }) => taskMoved(task, change, nowMs)),
  );
}
