import { create, toBinary, type DescMessage, type MessageInitShape } from "@bufbuild/protobuf";
import {
  TaskStateChangedSchema,
  UsageCutSchema,
  type UsageSegment,
} from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { AuditRecordedSchema } from "@fastgpu/contracts/fastgpu/events/v1/audit_events_pb";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { ExitClass, TaskState } from "@fastgpu/domain/states";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import { exitClassToWire, taskStateToWire } from "../api/wire-states.ts";
import { newId } from "../new-id.ts";
import type { StoredAttempt } from "../store/attempts.ts";

/** Whose fact it is, and what caused it. */
interface Origin {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly traceparent: string;
}

function makeEvent<D extends DescMessage>(
  schema: D,
  payload: MessageInitShape<D>,
  about: { aggregate: string; revision: number; nowMs: number; origin: Origin },
): NewEvent {
  return {
    eventId: newId("evt", about.nowMs),
    type: schema.typeName,
    aggregate: about.aggregate,
    aggregateRevision: BigInt(about.revision),
    occurredMs: about.nowMs,
    org: about.origin.org,
    project: about.origin.project,
    traceparent: about.origin.traceparent,
    payload: toBinary(schema, create(schema, payload)),
  };
}

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
  const about = { aggregate: task.id, revision: task.revision, nowMs, origin: task };
  return makeEvent(TaskStateChangedSchema, payload, about);
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
  const about = { aggregate: attempt.id, revision: 0, nowMs: cut.nowMs, origin: attempt };
  return makeEvent(UsageCutSchema, payload, about);
}

/** A call changed something. */
export function auditRecorded(
  origin: Origin,
  fact: { principal: string; method: string; resource: string; requestId: string },
  nowMs: number,
): NewEvent {
  return makeEvent(AuditRecordedSchema, fact, {
    aggregate: fact.resource,
    revision: 0,
    nowMs,
    origin,
  });
}
