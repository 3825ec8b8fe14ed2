import { toJson, type MessageInitShape } from "@bufbuild/protobuf";
import { TaskSchema, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { CreateTaskRequest } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { requestBody, type Json } from "@fastgpu/postgres/requests";
import type { CallContext } from "@fastgpu/rpc/context";
import { newId } from "../new-id.ts";
import type { Scheduler } from "../scheduler.ts";
import { parseTask } from "../spec/task-spec.ts";
import { firstReason, type NewTask } from "../store/submits.ts";
import { replaceTask } from "../submit/replace.ts";
import { conflictFault } from "../submit/writer.ts";
import { auditFact, auditRecorded, taskCreated } from "../transition/events.ts";
import { tenantOf } from "./names.ts";
import { noPlace, taskToWire } from "./task-wire.ts";
import { describeWritten } from "./read-task.ts";

/** Creates a draft, or (RunTask) a task that is queued at once. */
export async function createTask(
  s: Scheduler,
  request: CreateTaskRequest,
  context: CallContext,
  state: "DRAFT" | "QUEUED",
): Promise<MessageInitShape<typeof TaskSchema>> {
  const { replaces } = request;
  if (replaces !== "" && state === "DRAFT") {
    throw Fault.invalid("replaces", "is for RunTask: a draft has no place in line");
  }
  const task = buildTask(
    s,
    { task: request.task, requestId: request.requestId, replaces },
    { context, state },
  );
  await s.models.check(task.task.demand);
  await s.prices.check(task.task);
  if (request.validateOnly) return newTaskToWire(task);
  const outcome =
    replaces === ""
      ? await s.submits.submit(task)
      : await replaceTask(s, task, { replaces, context });
  switch (outcome.kind) {
    case "stored":
      return newTaskToWire(task);
    case "conflict":
      throw conflictFault(task, outcome.field);
    case "replay":
      return describeWritten(s, { id: outcome.task, name: outcome.task }, context);
  }
}

/** A task of a request, checked and with everything that is stored with it. */
export function buildTask(
  s: Scheduler,
  of: {
    readonly task?: Task | undefined;
    readonly requestId: string;
    /** The task whose place it takes; default: none's. */
    readonly replaces?: string;
  },
  at: { context: CallContext; state: "DRAFT" | "QUEUED" },
): NewTask {
  const { context, state } = at;
  if (of.task === undefined) throw Fault.invalid("task", "is required");
  const { org, project } = tenantOf(context);
  const nowMs = s.clock.nowMs();
  const parsed = parseTask(of.task, { project, nowMs });
  const user = context.principal.onBehalfOf ?? context.principal.id;
  const id = newId("task", nowMs);
  const origin = { org, project, traceparent: context.traceparent };
  const fact = auditFact(context, `projects/${project}/tasks/${id}`);
  return {
    id,
    org,
    project,
    user,
    task: parsed,
    state,
    waitingFor: parsed.dependencies.length,
    nowMs,
    traceparent: context.traceparent,
    request:
      of.requestId === ""
        ? undefined
        : {
            key: { org, project, method: context.method, requestId: of.requestId },
            body: requestBody({
              task: toJson(TaskSchema, of.task) as Json,
              // So that the bodies of those that replace none stay what they were.
              ...(of.replaces ? { replaces: of.replaces } : {}),
            }),
          },
    events: [taskCreated({ ...origin, id }, state, nowMs), auditRecorded(origin, fact, nowMs)],
  };
}

/** A task as it stands right after it was stored, without reading it back. */
export function newTaskToWire(of: NewTask): Task {
  const { task } = of;
  const { array } = task;
  const none = { leased: [], succeeded: [], failed: [], cancelled: [] };
  return taskToWire(
    {
      id: of.id,
      org: of.org,
      project: of.project,
      user: of.user,
      displayName: task.displayName,
      labels: task.labels,
      spec: task.spec,
      demand: task.demand,
      replicas: task.replicas,
      topology: task.topology,
      priority: task.priority,
      retry: task.retry,
      maxRuntimeMs: task.maxRuntimeMs,
      stopGraceMs: task.stopGraceMs,
      preemptible: task.preemptible,
      preemptions: 0,
      lineage: undefined,
      carried: { gpuMs: 0, preemptions: 0 },
      state: of.state,
      epoch: 0,
      revision: 1,
      queueReason: firstReason({ ...of, notBeforeMs: task.startAfterMs }),
      statusMessage: "",
      exitClass: undefined,
      exitCode: undefined,
      attemptCount: 0,
      counts: { retries: 0, freeRequeues: 0 },
      notBeforeMs: task.startAfterMs,
      excludedGpus: [],
      waitingFor: of.waitingFor,
      cancelRequested: false,
      attempt: undefined,
      array:
        array === undefined
          ? undefined
          : { ...array, ...none, pending: [{ first: 0, last: array.count - 1 }] },
      progress: undefined,
      manifestDigest: undefined,
      traceparent: of.traceparent,
      createdMs: of.nowMs,
      submittedMs: of.state === "DRAFT" ? undefined : of.nowMs,
      startedMs: undefined,
      endedMs: undefined,
    },
    noPlace,
  );
}
