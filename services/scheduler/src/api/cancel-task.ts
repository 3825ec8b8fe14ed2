import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { CancelTaskRequest } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { NodeId } from "@fastgpu/domain/ids";
import { isTerminal } from "@fastgpu/domain/states";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { lockLiveAttemptsOfTask, nodesOf, updateAttempts } from "../store/attempts.ts";
import { lockTask, updateTasks, type StoredTask, type TaskChange } from "../store/tasks.ts";
import { auditFact, auditRecorded, taskMoved } from "../transition/events.ts";
import { withoutPending } from "../transition/in-line.ts";
import { stopChanges, stoppableOf } from "../transition/stop.ts";
import { taskOf, tenantOf } from "./names.ts";
import { describeWritten } from "./read-task.ts";

/** Asks a task to stop. What waits ends at once; what runs is told to, and frees nothing until its worker says so. */
export async function cancelTask(
  s: Scheduler,
  request: CancelTaskRequest,
  context: CallContext,
): Promise<Task> {
  const id = taskOf(request.name);
  const { project } = tenantOf(context);
  const nodes = await transaction(s.core, async (tx) => {
    const task = await lockTask(tx, project, id);
    if (task === undefined)
      throw Fault.notFound(request.name, "`fastgpu task list` shows the tasks");
    return isTerminal(task.state) || task.cancelRequested
      ? []
      : cancelIn(s, tx, { task, request, context });
  });
  s.changed({ tasks: [id], nodes });
  return describeWritten(s, { id, name: request.name }, context);
}

/** Cancels a locked task within a transaction; answers the nodes that have to be told. */
export async function cancelIn(
  s: Pick<Scheduler, "clock">,
  tx: Tx,
  of: {
    task: StoredTask;
    request: Pick<CancelTaskRequest, "name" | "reason">;
    context: CallContext;
  },
): Promise<readonly NodeId[]> {
  const { task, request, context } = of;
  const nowMs = s.clock.nowMs();
  const attempts = await lockLiveAttemptsOfTask(tx, task.id);
  const stoppable = stoppableOf(attempts);
  await updateAttempts(tx, stopChanges(stoppable, "cancelled", nowMs));
  // A range that has ended but is not folded yet is still to come in.
  const live = attempts.length > 0 || (task.array?.leased.length ?? 0) > 0;
  const change = cancelledTask(task, { reason: request.reason, live, nowMs });
  await updateTasks(tx, [change]);
  await appendEvents(tx, [
    ...taskMoved(task, change, nowMs),
    auditRecorded(task, auditFact(context, request.name), nowMs),
  ]);
  return nodesOf(stoppable);
}

function cancelledTask(
  task: StoredTask,
  at: { reason: string; live: boolean; nowMs: number },
): TaskChange {
  const message = at.reason === "" ? "cancelled" : `cancelled: ${at.reason}`;
  const base = {
    id: task.id,
    prevState: task.state,
    cancelRequested: true,
    statusMessage: message,
  };
  if (task.state === "DRAFT" || (task.state === "QUEUED" && !at.live)) {
    const array = task.array === undefined ? {} : { array: withoutPending(task.array) };
    return { ...base, ...array, state: "CANCELLED", exitClass: "cancelled", endedMs: at.nowMs };
  }
  // FINALIZING is past stopping, and a queued array with live ranges has no state to stop in: the end will see the flag.
  if (task.state === "FINALIZING" || task.state === "QUEUED") return { ...base, state: task.state };
  return { ...base, state: "STOPPING" };
}
