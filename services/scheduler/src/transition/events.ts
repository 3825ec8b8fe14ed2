import { newEvent, topics } from "@fastgpu/events/topics";
import type { UsageSegment } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { ExitClass, TaskState } from "@fastgpu/domain/states";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import { exitClassToWire, taskStateToWire } from "../api/wire-states.ts";
import type { StoredAttempt } from "../store/attempts.ts";

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

/** A task's state changed. */
export function taskStateChanged(
  task: Origin & { readonly id: string; readonly revision: number },
  change: { from: TaskState | undefined; to: TaskState; exitClass?: ExitClass | undefined },
  nowMs: number,
): NewEvent {
  const payload = {
    task: task.id,
    to: taskStateToWire(change.to),
    ...(change.from === undefined ? {} : { from: taskStateToWire(change.from) }),
    ...(change.exitClass === undefined ? {} : { exitClass: exitClassToWire(change.exitClass) }),
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

/** A call changed something: auth chains it into the audit log. */
export function auditRecorded(
  origin: Origin,
  fact: { principal: string; method: string; resource: string; requestId: string },
  nowMs: number,
): NewEvent {
  const about = { aggregate: fact.resource, revision: 0, nowMs };
  return newEvent(topics.auditRecorded, fact, facts(origin, about));
}
