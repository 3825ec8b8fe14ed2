import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  ExplainTaskRequest,
  ExplainTaskResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { countIndices } from "@fastgpu/domain/index-set";
import { isTerminal } from "@fastgpu/domain/states";
import type { CallContext } from "@fastgpu/rpc/context";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import {
  blockersToWire,
  capacityInWords,
  remediesToWire,
  shortfallToWire,
  startToWire,
} from "../explain/explanation-to-wire.ts";
import { readFunds, type Funds } from "../explain/funds.ts";
import { expectedGpus, lookAt, planTaskOf, shortfallOf } from "../explain/look.ts";
import type { Snapshot, Snapshots } from "../explain/snapshot.ts";
import type { Scheduler } from "../scheduler.ts";
import { readUnmet, type UnmetParent } from "../store/dependencies.ts";
import type { StoredTask } from "../store/tasks.ts";
import { taskOf, tenantOf } from "./names.ts";
import { inTenant, readTaskOf } from "./read-task.ts";
import { dependencyConditionToWire, queueReasonToWire, taskStateToWire } from "./wire-states.ts";

type Answer = MessageInitShape<typeof ExplainTaskResponseSchema>;
/** What an answer has beside the task's name and state. */
type Told = Omit<Answer, "$typeName" | "$unknown" | "name" | "state">;

/** Says everything that a task waits for, and what would help. */
export async function explainTask(
  s: Scheduler,
  snapshots: Snapshots,
  of: { request: ExplainTaskRequest; context: CallContext },
): Promise<Answer> {
  const { request, context } = of;
  const tenant = tenantOf(context);
  const task = await readTaskOf(s, tenant, { id: taskOf(request.name), name: request.name });
  const answer = { name: request.name, state: taskStateToWire(task.state) };
  const waits = task.state === "DRAFT" || task.state === "QUEUED" || pendingOf(task) > 0;
  if (!waits || isTerminal(task.state) || task.cancelRequested) {
    return { ...answer, summary: isTerminal(task.state) ? "It has ended." : "It does not wait." };
  }
  const [unmet, snapshot, funds] = await Promise.all([
    inTenant(s, tenant, (tx) => readUnmet(tx, task.id)),
    snapshots.read(),
    task.demand.gpuCount === 0 ? undefined : fundsIfKnown(s, task.org, context),
  ]);
  return {
    ...answer,
    ...(task.queueReason === undefined ? {} : { queueReason: queueReasonToWire(task.queueReason) }),
    ...explain(s, { task, unmet, snapshot, funds }),
  };
}

/** A bill that cannot be had leaves the money out: all else is known without it. */
function fundsIfKnown(s: Scheduler, org: string, context: CallContext): Promise<Funds | undefined> {
  return readFunds(s, org, context).catch((error: unknown) => {
    context.log.warn({ err: error }, "no funds from billing");
    return undefined;
  });
}

function pendingOf(task: StoredTask): number {
  return task.array === undefined ? 0 : countIndices(task.array.pending);
}

function explain(
  s: Scheduler,
  of: {
    task: StoredTask;
    unmet: readonly UnmetParent[];
    snapshot: Snapshot;
    funds: Funds | undefined;
  },
): Told {
  const { task, unmet, snapshot, funds } = of;
  const nowMs = s.clock.nowMs();
  const inLine = snapshot.state.tasks.find((each) => each.id === task.id) ?? toPlanTask(task);
  const maxRunMs = task.maxRuntimeMs + task.stopGraceMs;
  const told = lookAt(snapshot, inLine, { nowMs, maxRunMs });
  const gpus = expectedGpus(told, snapshot);
  const { demand, stopGraceMs, notBeforeMs } = task;
  const shortfall = funds && shortfallOf(s, { gpus, stopGraceMs, funds });
  const condition = conditionOf(task, unmet.length, shortfall !== undefined);
  const paused = notBeforeMs > nowMs;
  const queued = task.state !== "DRAFT" && unmet.length === 0;
  return {
    summary: [
      ...(condition === undefined ? [] : [`${condition[0]?.toUpperCase()}${condition.slice(1)}.`]),
      ...(paused ? ["It waits out the pause before a retry."] : []),
      ...(inLine.array?.leasesLeft === 0
        ? ["As many of its elements run as its parallelism allows."]
        : [capacityInWords(told, demand, Math.max(nowMs, notBeforeMs))]),
    ].join(" "),
    blockers: blockersToWire(told, demand),
    nodesTotal: told.fit.nodes,
    nodesFitting: told.fit.fitting,
    queuePosition: queued ? told.queuePosition : 0,
    queueLength: told.queueLength - (queued ? 0 : 1),
    start: startToWire(told, nowMs, condition),
    remedies: remediesToWire(told, nowMs, shortfall),
    unmetDependencies: unmet.map(({ parent, condition: must, state }) => ({
      task: `projects/${task.project}/tasks/${parent}`,
      condition: dependencyConditionToWire(must),
      state: taskStateToWire(state),
    })),
    ...(paused ? { retryPauseEndTime: timestampFromMs(notBeforeMs) } : {}),
    ...shortfallToWire(shortfall),
  };
}

/** What must come about before capacity matters. */
function conditionOf(task: StoredTask, unmet: number, short: boolean): string | undefined {
  if (task.state === "DRAFT") return "it is a draft: it starts only once it is submitted";
  if (unmet > 0) return `it waits for ${unmet} other task${unmet === 1 ? "" : "s"} to end`;
  return short ? "the organisation's account cannot cover its hold" : undefined;
}

function toPlanTask(task: StoredTask): PlanTask {
  const { id, org, project, demand, priority, stopGraceMs, notBeforeMs, excludedGpus } = task;
  const { array } = task;
  const submittedMs = task.submittedMs ?? task.createdMs;
  const pending = pendingOf(task);
  return planTaskOf({
    ...{ id, org, project, demand, priority, submittedMs, stopGraceMs },
    more: {
      ...{ notBeforeMs, excludedGpus },
      array: array === undefined ? undefined : { pending, leasesLeft: array.parallelism },
    },
  });
}
