import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { EventBatchSchema } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type { Event, EventBatch } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { EventRun, StoredEvent } from "@fastgpu/postgres/outbox";

/** Consecutive events as their wire message. */
export function toBatch(producer: string, run: EventRun): EventBatch {
  return create(EventBatchSchema, {
    producer,
    incarnation: run.incarnation,
    events: run.events.map((event) => ({
      seq: event.seq,
      eventId: event.eventId,
      type: event.type,
      aggregate: event.aggregate,
      aggregateRevision: event.aggregateRevision,
      occurredAt: timestampFromMs(event.occurredMs),
      org: event.org ?? "",
      project: event.project ?? "",
      traceparent: event.traceparent,
      payload: event.payload,
    })),
  });
}

/** A wire message as consecutive events. Throws a RangeError on a malformed id. */
export function fromBatch(batch: EventBatch): EventRun {
  return { incarnation: batch.incarnation, events: batch.events.map(fromEvent) };
}

function fromEvent(event: Event): StoredEvent {
  return {
    seq: event.seq,
    eventId: required("evt", event.eventId),
    type: event.type,
    aggregate: event.aggregate,
    aggregateRevision: event.aggregateRevision,
    occurredMs: event.occurredAt === undefined ? 0 : timestampMs(event.occurredAt),
    org: event.org === "" ? undefined : required("org", event.org),
    project: event.project === "" ? undefined : required("proj", event.project),
    traceparent: event.traceparent,
    payload: event.payload,
  };
}

function required<P extends "evt" | "org" | "proj">(prefix: P, text: string) {
  const id = parseId(prefix, text);
  if (id === undefined) throw new RangeError(`not an id of ${prefix}: ${text}`);
  return id;
}

/** Bytes of a message on the bus. */
export function encodeRun(producer: string, run: EventRun): Uint8Array {
  return toBinary(EventBatchSchema, toBatch(producer, run));
}

/** Reads a message from the bus. */
export function decodeRun(bytes: Uint8Array): EventRun {
  return fromBatch(fromBinary(EventBatchSchema, bytes));
}

/** `Nats-Msg-Id`: the same events published twice within the window are one message. */
export function messageId(producer: string, run: EventRun): string {
  return `${producer}/${run.incarnation}/${run.events[0]?.seq ?? 0n}-${run.events.at(-1)?.seq ?? 0n}`;
}
