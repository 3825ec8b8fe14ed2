import type { Bus } from "@fastgpu/events/bus";
import { topics } from "@fastgpu/events/topics";
import { startInbox } from "@fastgpu/postgres/inbox";
import type { Inbox } from "@fastgpu/postgres/inbox";
import type { EventPage, StoredEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import type { Billing } from "../billing.ts";
import { onTaskStateChanged } from "./task-state-changed.ts";
import { onUsageCut } from "./usage-cut.ts";

/** Options of {@link consumeSchedulerEvents}. */
export interface SchedulerEventsOptions {
  readonly billing: Billing & { readonly tracing: Tracing };
  readonly bus: Bus;
  readonly stop: AbortSignal;
  /** Reads the scheduler's own log. */
  readonly fetch: (afterSeq: bigint) => Promise<EventPage>;
  readonly fillEveryMs?: number;
  /** Called after a commit with the last applied seq. */
  readonly onApplied?: (lastSeq: bigint) => void;
}

/**
 * Applies the scheduler's events, each once and in order. Usage and ends of tasks touch different columns and add up in
 * any order, so that a batch is handled as two sets, however its events are interleaved.
 */
export function consumeSchedulerEvents(options: SchedulerEventsOptions): Inbox {
  const { billing, bus, fillEveryMs, onApplied } = options;
  const inbox = startInbox({
    producer: "scheduler",
    core: billing.db.core,
    log: billing.log,
    stop: options.stop,
    fetch: options.fetch,
    apply: (tx, events) => applySchedulerEvents(tx, billing, events),
    ...(fillEveryMs === undefined ? {} : { fillEveryMs }),
    ...(onApplied === undefined ? {} : { onApplied }),
  });
  const subscription = bus.subscribe({
    producer: "scheduler",
    consumer: "billing",
    receive: (run) => inbox.receive(run),
    onGap: () => inbox.refresh(),
  });
  return {
    receive: (run) => inbox.receive(run),
    refresh: () => inbox.refresh(),
    async [Symbol.asyncDispose]() {
      await subscription[Symbol.asyncDispose]();
      await inbox[Symbol.asyncDispose]();
    },
  };
}

/** Applies a run of events in the transaction that notes them as applied; unknown types are skipped. */
export async function applySchedulerEvents(
  tx: Tx,
  billing: Billing & { readonly tracing: Tracing },
  events: readonly StoredEvent[],
): Promise<void> {
  const cuts = events.filter((event) => event.type === topics.usageCut.type);
  const changes = events.filter((event) => event.type === topics.taskStateChanged.type);
  if (cuts.length > 0) await onUsageCut(tx, billing, cuts);
  if (changes.length > 0) await onTaskStateChanged(tx, changes);
}
