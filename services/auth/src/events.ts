import { create, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { NewEvent } from "@fastgpu/postgres/outbox";
import { freshId } from "./parts.ts";

/** What an event is about. Identities are written once, so the revision of each is 1 unless told otherwise. */
export interface EventSubject {
  readonly aggregate: string;
  readonly revision?: bigint;
  readonly org: OrgId;
  readonly project?: ProjectId;
  readonly traceparent: string;
  readonly nowMs: number;
}

/** A fact of this service, ready for the outbox. */
export function eventOf<D extends DescMessage>(
  schema: D,
  payload: MessageInitShape<D>,
  subject: EventSubject,
): NewEvent {
  return {
    eventId: freshId("evt", subject.nowMs),
    type: schema.typeName,
    aggregate: subject.aggregate,
    aggregateRevision: subject.revision ?? 1n,
    occurredMs: subject.nowMs,
    org: subject.org,
    project: subject.project,
    traceparent: subject.traceparent,
    payload: toBinary(schema, create(schema, payload)),
  };
}
