import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  WatchTaskRequest,
  WatchTaskResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { isTerminal } from "@fastgpu/domain/states";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { taskOf, tenantOf } from "./names.ts";
import { describeTask, readTaskOf } from "./read-task.ts";

/** The poll that covers changes made by another replica. */
const pollMs = 1_000;

/**
 * Follows a task. A task has one revision, raised by each change, so a watcher that resumes gets the present state
 * where it missed something and nothing where it did not: no revision is ever too old.
 */
export async function* watchTask(
  s: Scheduler,
  request: WatchTaskRequest,
  context: CallContext,
): AsyncGenerator<MessageInitShape<typeof WatchTaskResponseSchema>> {
  const id = taskOf(request.name);
  const tenant = tenantOf(context);
  let seen = Number(request.afterRevision);
  while (!context.signal.aborted) {
    const changed = s.watchers.changed(id, { pollMs, signal: context.signal });
    const task = await readTaskOf(s, tenant, { id, name: request.name });
    if (task.revision > seen) {
      seen = task.revision;
      yield { task: await describeTask(s, task, context) };
    }
    if (isTerminal(task.state)) return;
    await changed;
  }
}
