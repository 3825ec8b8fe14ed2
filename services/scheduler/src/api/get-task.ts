import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { GetTaskRequest } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { taskOf, tenantOf } from "./names.ts";
import { describeTask, readTaskOf } from "./read-task.ts";

/** Reads one task. */
export async function getTask(
  s: Scheduler,
  request: GetTaskRequest,
  context: CallContext,
): Promise<Task> {
  const id = taskOf(request.name);
  const task = await readTaskOf(s, tenantOf(context), { id, name: request.name });
  return describeTask(s, task, context);
}
