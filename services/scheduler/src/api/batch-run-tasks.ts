import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  BatchRunTasksItem,
  BatchRunTasksOutcomeSchema,
  BatchRunTasksRequest,
  BatchRunTasksResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { readTasks } from "../store/tasks.ts";
import { conflictFault } from "../submit/writer.ts";
import { buildTask, newTaskToWire } from "./create-task.ts";
import { noPlace, taskToWire } from "./task-wire.ts";

type Outcome = MessageInitShape<typeof BatchRunTasksOutcomeSchema>;

/** Creates and submits many tasks; each item has its own outcome, in the order of the items. */
export async function batchRunTasks(
  s: Scheduler,
  request: BatchRunTasksRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof BatchRunTasksResponseSchema>> {
  const outcomes = await Promise.all(request.items.map((item) => runOne(s, item, context)));
  return { outcomes };
}

async function runOne(
  s: Scheduler,
  item: BatchRunTasksItem,
  context: CallContext,
): Promise<Outcome> {
  try {
    const task = buildTask(s, item, { context, state: "QUEUED" });
    await s.models.check(task.task.demand);
    await s.prices.check(task.task);
    const outcome = await s.submits.submit(task);
    if (outcome.kind === "conflict") throw conflictFault(task, outcome.field);
    if (outcome.kind === "stored") return { outcome: { case: "task", value: newTaskToWire(task) } };
    const [found] = await readTasks(s.core, [outcome.task]);
    if (found === undefined) throw Fault.notFound(outcome.task);
    return { outcome: { case: "task", value: taskToWire(found, noPlace) } };
  } catch (error) {
    const fault = Fault.from(error);
    // What is wrong with the item is its outcome; what is wrong with us is the call's.
    if (fault.code === "INTERNAL" || fault.code === "UNAVAILABLE") throw fault;
    const field = fault.violations[0]?.field ?? "";
    const value = { reason: fault.reason, message: fault.message, field };
    return { outcome: { case: "error", value } };
  }
}
