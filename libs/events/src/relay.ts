import type { EventRun } from "@fastgpu/postgres/outbox";
import { startRelay } from "@fastgpu/postgres/relay";
import type { Relay, RelayOptions } from "@fastgpu/postgres/relay";
import { contextFromTraceparent, formatTraceparent } from "@fastgpu/telemetry/trace-context";
import { passiveTracing, type Tracing } from "@fastgpu/telemetry/tracing";
import { SpanKind, SpanStatusCode, type Span } from "@opentelemetry/api";
import type { Bus } from "./bus.ts";

/** Options of {@link startBusRelay}. */
export interface BusRelayOptions extends Omit<RelayOptions, "publish"> {
  readonly bus: Bus;
  /** Shows each event's way over the bus in the trace that caused it; missing: no spans. */
  readonly tracing?: Tracing | undefined;
}

/** Starts a service's relay onto the bus. */
export function startBusRelay(options: BusRelayOptions): Relay {
  const { bus, producer, tracing } = options;
  const publish = (run: EventRun): Promise<void> => bus.publish(producer, run);
  // Nobody looks at spans here: events take the short way.
  if (tracing === undefined || tracing === passiveTracing) {
    return startRelay({ ...options, publish });
  }
  return startRelay({
    ...options,
    publish: (run) => publishInSpans(tracing, { producer, run, publish }),
  });
}

/** Publishes a run with a span per traced event; the consumer's spans hang below these. */
async function publishInSpans(
  tracing: Tracing,
  of: { producer: string; run: EventRun; publish: (run: EventRun) => Promise<void> },
): Promise<void> {
  const spans: Span[] = [];
  const events = of.run.events.map((event) => {
    if (event.traceparent === "") return event;
    const span = tracing.tracer.startSpan(
      `publish ${event.type}`,
      {
        kind: SpanKind.PRODUCER,
        attributes: {
          "messaging.system": "nats",
          "messaging.operation.type": "send",
          "messaging.destination.name": of.producer,
          "messaging.message.id": event.eventId,
          "messaging.batch.message_count": of.run.events.length,
        },
      },
      contextFromTraceparent(event.traceparent),
    );
    spans.push(span);
    return { ...event, traceparent: formatTraceparent(span.spanContext()) };
  });
  try {
    await of.publish({ ...of.run, events });
  } catch (error) {
    for (const span of spans) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) });
    }
    throw error;
  } finally {
    for (const span of spans) span.end();
  }
}
