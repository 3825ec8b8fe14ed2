import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { TaskId } from "@fastgpu/domain/ids";
import { payloadOf, topics } from "@fastgpu/events/topics";
import type { StoredEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import { addTaskCosts } from "../store/task-costs.ts";
import type { TaskCostChange } from "../store/task-costs.ts";

const terminal: ReadonlySet<TaskState> = new Set([
  TaskState.SUCCEEDED,
  TaskState.FAILED,
  TaskState.CANCELLED,
]);

/** Notes which tasks have ended: their cost is final once their holds are closed. */
export async function onTaskStateChanged(tx: Tx, events: readonly StoredEvent[]): Promise<void> {
  const ended = new Map<TaskId, TaskCostChange>();
  for (const event of events) {
    const payload = payloadOf(topics.taskStateChanged, event);
    const task = parseId("task", payload.task);
    if (task === undefined || !terminal.has(payload.to)) continue;
    const { org, project } = event;
    if (org === undefined || project === undefined) continue;
    ended.set(task, { task, org, project, chargedNanos: 0n, ended: true });
  }
  await addTaskCosts(tx, [...ended.values()]);
}
