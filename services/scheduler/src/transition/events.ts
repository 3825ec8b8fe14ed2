import { newEvent, topics } from "@fastgpu/events/topics";
import type { UsageSegment } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { ExitClass, TaskState } from "@fastgpu/domain/states";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import type { CallContext } from "@fastgpu/rpc/context";
import { exitClassToWire, taskStateToWire } from "../api/wire-states.ts";
import type { StoredAttempt } from "../store/attempts.ts";
import type { StoredTask, TaskChange } from "../store/tasks.ts";

/** Whose fact it is, and what caused it. */
interface Origin {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly traceparent: string;
}

const facts = (origin: Origin, about: { aggregate: string; revision: number; nowMs: number }) => ({
  aggregate: about.aggregate,
  aggregateRevision: BigInt(about.revision),
  occurredMs: about.nowMs,
  org: origin.org,
  project: origin.project,
  traceparent: origin.traceparent,
});

/** A task was stored, as a draft or in line. */
export function taskCreated(
  task: Origin & { readonly id: TaskId },
  to: TaskState,
  nowMs: number,
): NewEvent {
  return stateChanged({ ...task, revision: 1 }, { to }, nowMs);
}

/** A stored task moves on, which raises its revision by one; none where it stays in its state. */
export function taskMoved(
  task: StoredTask,
  { state: to, exitClass }: Pick<TaskChange, "state" | "exitClass">,
  nowMs: number,
): NewEvent[] {
  if (to === task.state) return [];
  const moved = { ...task, revision: task.revision + 1 };
  return [stateChanged(moved, { from: task.state, to, exitClass }, nowMs)];
}

function stateChanged(
  task: Origin & { readonly id: TaskId; readonly revision: number },
  change: { from?: TaskState; to: TaskState; exitClass?: ExitClass | undefined },
  nowMs: number,
): NewEvent {
  const { from, to, exitClass } = change;
  const payload = {
    task: task.id,
    to: taskStateToWire(to),
    ...(from === undefined ? {} : { from: taskStateToWire(from) }),
    ...(exitClass === undefined ? {} : { exitClass: exitClassToWire(exitClass) }),
  };
  const about = { aggregate: task.id, revision: task.revision, nowMs };
  return newEvent(topics.taskStateChanged, payload, facts(task, about));
}

/** Segments of an attempt's GPU time were cut. */
export function usageCut(
  attempt: StoredAttempt,
  cut: { segments: readonly UsageSegment[]; final: boolean; nowMs: number },
): NewEvent {
  const payload = {
    attempt: attempt.id,
    task: attempt.task,
    segments: [...cut.segments],
    final: cut.final,
  };
  const about = { aggregate: attempt.id, revision: 0, nowMs: cut.nowMs };
  return newEvent(topics.usageCut, payload, facts(attempt, about));
}

/** What the audit log is told of a call. */
type AuditFact = Readonly<Record<"principal" | "method" | "resource" | "requestId", string>>;

/** Who called what about a resource. */
export function auditFact(
  { principal, method, requestId }: CallContext,
  resource: string,
): AuditFact {
  return { principal: principal.id, method, resource, requestId };
}

/** A call changed something: auth chains it into the audit log. */
export function auditRecorded(origin: Origin, fact: AuditFact, nowMs: number): NewEvent {
  const about = { aggregate: fact.resource, revision: 0, nowMs };
  return newEvent(topics.auditRecorded, fact, facts(origin, about));
}
