import { topics, payloadOf } from "@fastgpu/events/topics";
import type { UsageSegment } from "@fastgpu/contracts/fastgpu/events/v1/scheduler_events_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { StoredEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import { contextFromTraceparent } from "@fastgpu/telemetry/trace-context";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import { SpanKind } from "@opentelemetry/api";
import { usageKindOf } from "../api/messages.ts";
import type { Billing } from "../billing.ts";
import type { Segment } from "../store/usage.ts";
import { applyUsage } from "../usage/apply-usage.ts";
import type { UsageCut } from "../usage/rate-usage.ts";

/**
 * Rates and charges what the scheduler cut, all events of a batch at once. An event that no version of the scheduler
 * could have meant is logged and left out: one bad event must not hold up everybody's bill.
 */
export async function onUsageCut(
  tx: Tx,
  billing: Billing & { readonly tracing: Tracing },
  events: readonly StoredEvent[],
): Promise<void> {
  const spans = events.map((event) =>
    billing.tracing.tracer.startSpan(
      "billing rate usage",
      { kind: SpanKind.CONSUMER, attributes: { "fastgpu.attempt": event.aggregate } },
      contextFromTraceparent(event.traceparent),
    ),
  );
  try {
    const cuts: UsageCut[] = [];
    for (const event of events) {
      const cut = parseUsageCut(event);
      if (typeof cut !== "string") cuts.push(cut);
      else billing.log.error({ event: event.eventId, problem: cut }, "usage left out");
    }
    const done = await applyUsage(tx, billing, cuts);
    if (done.repeated > 0) billing.log.warn({ repeated: done.repeated }, "segments cut twice");
    if (done.unpriced > 0) billing.log.error({ unpriced: done.unpriced }, "segments without price");
    if (done.overrunNanos > 0n) {
      billing.log.warn({ overrunNanos: String(done.overrunNanos) }, "usage beyond its holds");
    }
  } finally {
    for (const span of spans) span.end();
  }
}

/** Reads an event; a text that says what is wrong with it where it cannot be read. */
export function parseUsageCut(event: StoredEvent): UsageCut | string {
  const payload = payloadOf(topics.usageCut, event);
  const attempt = parseId("att", payload.attempt);
  const task = parseId("task", payload.task);
  if (attempt === undefined) return `attempt ${payload.attempt}`;
  if (task === undefined) return `task ${payload.task}`;
  if (event.org === undefined || event.project === undefined) return "no tenant";
  const segments: Segment[] = [];
  for (const wire of payload.segments) {
    const segment = parseSegment(wire);
    if (typeof segment === "string") return segment;
    segments.push(segment);
  }
  const owner = { attempt, task, org: event.org, project: event.project };
  return { owner, segments, final: payload.final };
}

function parseSegment(wire: UsageSegment): Segment | string {
  const gpu = parseId("gpu", wire.gpu);
  if (gpu === undefined) return `gpu ${wire.gpu}`;
  const kind = usageKindOf(wire.kind);
  if (kind === undefined) return `kind ${wire.kind}`;
  const startMs = Number(wire.startMs);
  const endMs = Number(wire.endMs);
  const billingStartMs = Number(wire.billingStartMs);
  const billingEndMs = Number(wire.billingEndMs);
  if (startMs > endMs || billingStartMs > billingEndMs || billingStartMs < 0) {
    return `segment ${wire.seq} of ${wire.gpu} ends before it starts`;
  }
  return {
    member: wire.member,
    gpu,
    seq: wire.seq,
    kind,
    sku: wire.sku,
    priceVersion: wire.priceVersion,
    startMs,
    endMs,
    billingStartMs,
    billingEndMs,
    simulated: wire.simulated,
  };
}
