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
import { conditionsOf, moneyCondition, summaryOf } from "../explain/conditions.ts";
import type { ExplainDesk } from "../explain/desk.ts";
import {
  blockersToWire,
  quotasToWire,
  shortfallToWire,
  standingToWire,
  startToWire,
  type MaxCostTooSmall,
  type Shortfall,
} from "../explain/explanation-to-wire.ts";
import { maxCostTooSmall, readFunds, shortfallOf, type Funds } from "../explain/funds.ts";
import { askerOf, planTaskOf } from "../explain/look.ts";
import { otherProjects } from "../explain/other-projects.ts";
import type { Told } from "../explain/question.ts";
import { remediesToWire } from "../explain/remedies-to-wire.ts";
import type { Scheduler } from "../scheduler.ts";
import { readUnmet, type UnmetParent } from "../store/dependencies.ts";
import { readMaxCosts } from "../store/max-costs.ts";
import type { StoredTask } from "../store/tasks.ts";
import { taskOf, tenantOf } from "./names.ts";
import { inTenant } from "./in-tenant.ts";
import { readTaskOf } from "./read-task.ts";
import { dependencyConditionToWire, queueReasonToWire, taskStateToWire } from "./wire-states.ts";

type Answer = MessageInitShape<typeof ExplainTaskResponseSchema>;
/** What an answer has beside the task's name and state. */
type Fields = Omit<Answer, "$typeName" | "$unknown" | "name" | "state">;

/** Says everything that a task waits for, and what would help. */
export async function explainTask(
  s: Scheduler,
  desk: ExplainDesk,
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
  const nowMs = s.clock.nowMs();
  const projects = await otherProjects(s, { context, spec: task.spec, ...tenant });
  const question = { kind: "explain", task: toPlanTask(task), projects, nowMs } as const;
  const [[unmet, bounds], looked, funds] = await Promise.all([
    inTenant(
      s,
      tenant,
      async (tx) => [await readUnmet(tx, task.id), await readMaxCosts(tx, [task.id])] as const,
    ),
    desk.ask(question, askerOf(context, task.org)),
    task.demand.gpuCount === 0 ? undefined : fundsIfKnown(s, task.org, context),
  ]);
  return {
    ...answer,
    ...(task.queueReason === undefined ? {} : { queueReason: queueReasonToWire(task.queueReason) }),
    ...fieldsOf(s, { task, unmet, maxCostNanos: bounds.get(task.id), looked, funds, nowMs }),
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

function fieldsOf(
  s: Scheduler,
  of: {
    task: StoredTask;
    unmet: readonly UnmetParent[];
    maxCostNanos: bigint | undefined;
    looked: Told;
    funds: Funds | undefined;
    nowMs: number;
  },
): Fields {
  const { task, unmet, funds, nowMs } = of;
  const { told, task: inLine, gpus, rests } = of.looked;
  const { stopGraceMs, notBeforeMs, project } = task;
  const shortfall = funds && shortfallOf(s, { gpus, stopGraceMs, funds });
  const draft = task.state === "DRAFT";
  const tried = task.attemptCount > 0;
  // What earlier attempts have left of it only billing knows: it is told when the next lease is refused.
  const maxCostNanos = tried ? undefined : of.maxCostNanos;
  const tooSmall =
    funds && maxCostTooSmall(s, { gpus, stopGraceMs, maxCostNanos, prices: funds.prices });
  const around = { draft, tried, unmet: unmet.length, shortfall, tooSmall, nowMs };
  const conditions = conditionsOf(told, inLine, around);
  const condition = conditionOf(task, unmet.length, { shortfall, tooSmall });
  const queued = !draft && unmet.length === 0;
  return {
    summary: summaryOf(conditions, told),
    conditions,
    blockers: blockersToWire(told, task.demand),
    quotas: quotasToWire(told.quotas, project),
    nodesTotal: told.fit.nodes,
    nodesFitting: told.fit.fitting,
    queuePosition: queued ? told.queuePosition : 0,
    queueLength: told.queueLength - (queued ? 0 : 1),
    ...standingToWire(told),
    start: startToWire({ ...told, rests }, nowMs, condition),
    remedies: remediesToWire(
      told,
      { org: task.org, project, task: task.id, nowMs },
      { shortfall, tooSmall },
    ),
    unmetDependencies: unmet.map(({ parent, condition: must, state }) => ({
      task: `projects/${project}/tasks/${parent}`,
      condition: dependencyConditionToWire(must),
      state: taskStateToWire(state),
    })),
    ...(notBeforeMs > nowMs
      ? { [tried ? "retryPauseEndTime" : "startAfterTime"]: timestampFromMs(notBeforeMs) }
      : {}),
    ...shortfallToWire(shortfall),
  };
}

/** What must come about before capacity matters. */
function conditionOf(
  task: StoredTask,
  unmet: number,
  money: { shortfall: Shortfall | undefined; tooSmall: MaxCostTooSmall | undefined },
): string | undefined {
  if (task.state === "DRAFT") return "it is a draft: it starts only once it is submitted";
  if (unmet > 0) return `it waits for ${unmet} other task${unmet === 1 ? "" : "s"} to end`;
  return moneyCondition(money);
}

function toPlanTask(task: StoredTask): PlanTask {
  const { id, org, project, user, demand, priority, preemptible, stopGraceMs } = task;
  const { array, notBeforeMs, excludedGpus } = task;
  const submittedMs = task.submittedMs ?? task.createdMs;
  const pending = pendingOf(task);
  return planTaskOf({
    ...{ id, org, project, user, demand, priority, preemptible, submittedMs, stopGraceMs },
    more: {
      ...{ notBeforeMs, excludedGpus, maxRuntimeMs: task.maxRuntimeMs },
      ...{ replicas: task.replicas, topology: task.topology },
      array: array === undefined ? undefined : { pending, leasesLeft: array.parallelism },
    },
  });
}
