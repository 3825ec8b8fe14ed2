import { toJson } from "@bufbuild/protobuf";
import type { Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  SubmitTaskRequestSchema,
  type SubmitTaskRequest,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { idToUuid, type TaskId } from "@fastgpu/domain/ids";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { claimRequest, requestBody, requestReused, type Json } from "@fastgpu/postgres/requests";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { readParents } from "../store/dependencies.ts";
import { firstReason } from "../store/submits.ts";
import { lockTask, updateTasks, type TaskChange } from "../store/tasks.ts";
import { auditFact, auditRecorded, taskMoved } from "../transition/events.ts";
import { taskOf, tenantOf } from "./names.ts";
import { describeWritten } from "./read-task.ts";

/** Submits a draft. */
export async function submitTask(
  s: Scheduler,
  request: SubmitTaskRequest,
  context: CallContext,
): Promise<Task> {
  const id = taskOf(request.name);
  const parents = await transaction(s.core, async (tx) => {
    await submit(s, tx, { id, request, context });
    return readParents(tx, id);
  });
  s.changed({ tasks: [id, ...parents], nodes: [] });
  return describeWritten(s, { id, name: request.name }, context);
}

async function submit(
  s: Scheduler,
  tx: Tx,
  of: { id: TaskId; request: SubmitTaskRequest; context: CallContext },
): Promise<void> {
  const { id, request, context } = of;
  const { org, project } = tenantOf(context);
  const nowMs = s.clock.nowMs();
  if (request.requestId !== "") {
    const key = { org, project, method: context.method, requestId: request.requestId };
    const body = requestBody({
      ...(toJson(SubmitTaskRequestSchema, request) as Record<string, Json>),
      requestId: "",
    });
    const response = Buffer.from(idToUuid(id).replaceAll("-", ""), "hex");
    const outcome = await claimRequest(tx, { key, body, response, nowMs });
    if (outcome.kind === "replay") return;
    if (outcome.kind === "conflict") throw requestReused(key, outcome.field);
  }
  const task = await lockTask(tx, project, id);
  if (task === undefined) throw Fault.notFound(request.name);
  if (task.state !== "DRAFT") {
    throw new Fault("ILLEGAL_STATE", `${request.name} is ${task.state}, not a draft`, {
      metadata: { state: task.state },
      hint: "only a draft can be submitted; create a new task to run it again",
    });
  }
  const { waitingFor, notBeforeMs } = task;
  const change: TaskChange = {
    ...{ id, prevState: "DRAFT", state: "QUEUED", submittedMs: nowMs },
    queueReason: firstReason({ waitingFor, notBeforeMs, nowMs }),
  };
  await updateTasks(tx, [change]);
  await appendEvents(tx, [
    ...taskMoved(task, change, nowMs),
    auditRecorded(task, auditFact(context, request.name), nowMs),
  ]);
}
