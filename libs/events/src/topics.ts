import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import { AuditRecordedSchema } from "@fastgpu/contracts/fastgpu/events/v1/audit_events_pb";
import {
  ApiKeyRevokedSchema,
  OrganizationCreatedSchema,
  ProjectCreatedSchema,
} from "@fastgpu/contracts/fastgpu/events/v1/auth_events_pb";
import {
  ReservationChangedSchema,
  SchedulingPolicyChangedSchema,
  TaskStateChangedSchema,
  UsageCutSchema,
} from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { NodeSampleSchema } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { newId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import { randomBytes } from "node:crypto";

/** A kind of event: the message that its payload is. Durable: outbox, bus and log carry it. */
export interface Topic<S extends DescMessage> {
  /** Full name of the message; what the envelope's `type` says. */
  readonly type: string;
  readonly schema: S;
}

function topic<S extends DescMessage>(schema: S): Topic<S> {
  return { type: schema.typeName, schema };
}

/** Every event there is. A new one is a message in proto/fastgpu/events and a line here. */
export const topics = {
  /** By auth. */
  organizationCreated: topic(OrganizationCreatedSchema),
  projectCreated: topic(ProjectCreatedSchema),
  apiKeyRevoked: topic(ApiKeyRevokedSchema),
  /** By the scheduler. */
  taskStateChanged: topic(TaskStateChangedSchema),
  usageCut: topic(UsageCutSchema),
  schedulingPolicyChanged: topic(SchedulingPolicyChangedSchema),
  reservationChanged: topic(ReservationChangedSchema),
  /** By every service. */
  auditRecorded: topic(AuditRecordedSchema),
} as const;

/** A message between running processes: lost when nobody listens, kept by nobody. */
export interface Signal<S extends DescMessage> {
  readonly name: string;
  readonly schema: S;
}

function signal<S extends DescMessage>(name: string, schema: S): Signal<S> {
  return { name, schema };
}

/** Every signal there is. Each is sent with a key, one word, that listeners can choose by. */
export const signals = {
  /** A worker's newest figures; key: the node's id. */
  nodeSample: signal("sample", NodeSampleSchema),
  /** A replica of the scheduler has something to send to its workers; key: the replica. */
  replicaNudge: signal("nudge", EmptySchema),
  /** An API key was revoked: whoever verifies tokens refuses those it made; key: the API key. */
  keyRevoked: signal("revoked", ApiKeyRevokedSchema),
} as const;

/** What the writer of an event says beside its payload. */
export interface EventFacts {
  /** Id of what it is about, and that thing's revision after it. */
  readonly aggregate: string;
  readonly aggregateRevision: bigint;
  /** By the service's Clock. */
  readonly occurredMs: number;
  readonly org?: OrgId | undefined;
  readonly project?: ProjectId | undefined;
  /** W3C trace context of the cause; empty where there is none. */
  readonly traceparent?: string;
}

/** Makes an event for the outbox. */
export function newEvent<S extends DescMessage>(
  topic: Topic<S>,
  payload: MessageInitShape<S>,
  facts: EventFacts,
): NewEvent {
  return {
    eventId: newId("evt", facts.occurredMs, randomBytes(10)),
    type: topic.type,
    aggregate: facts.aggregate,
    aggregateRevision: facts.aggregateRevision,
    occurredMs: facts.occurredMs,
    org: facts.org,
    project: facts.project,
    traceparent: facts.traceparent ?? "",
    payload: toBinary(topic.schema, create(topic.schema, payload)),
  };
}

/** Reads an event's payload; throws when its type is another topic's. */
export function payloadOf<S extends DescMessage>(
  topic: Topic<S>,
  event: Pick<NewEvent, "type" | "payload">,
): MessageShape<S> {
  if (event.type !== topic.type) throw new RangeError(`a ${event.type} is no ${topic.type}`);
  return fromBinary(topic.schema, event.payload);
}
