import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { startInbox } from "@fastgpu/postgres/inbox";
import type { Inbox, InboxOptions } from "@fastgpu/postgres/inbox";
import type { StoredEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Bus } from "./bus.ts";
import type { Topic } from "./topics.ts";

/** An event with its payload read. */
export interface Received<S extends DescMessage> {
  readonly event: StoredEvent;
  readonly payload: MessageShape<S>;
}

/** What a service does on one topic. */
export interface EventHandler {
  readonly type: string;
  apply(tx: Tx, events: readonly StoredEvent[]): Promise<void>;
}

/**
 * Says what to do on a topic. `handle` gets consecutive events of it, in order, inside the
 * transaction that notes them as applied; it must not have effects outside.
 */
export function on<S extends DescMessage>(
  topic: Topic<S>,
  handle: (tx: Tx, received: readonly Received<S>[]) => Promise<void>,
): EventHandler {
  return {
    type: topic.type,
    apply: (tx, events) =>
      handle(
        tx,
        events.map((event) => ({ event, payload: fromBinary(topic.schema, event.payload) })),
      ),
  };
}

/** Options of {@link startConsumer}. */
export interface ConsumerOptions extends Omit<InboxOptions, "apply"> {
  /** The consuming service. */
  readonly consumer: string;
  readonly bus: Bus;
  readonly handlers: readonly EventHandler[];
  /** Called with the type of each event that no handler is for: a newer producer, or not our business. */
  readonly onSkipped?: (type: string) => void;
}

/** Applies one producer's events with the given handlers, exactly once and in order. */
export function startConsumer(options: ConsumerOptions): Inbox {
  const handlers = new Map(options.handlers.map((handler) => [handler.type, handler]));
  const inbox = startInbox({
    ...options,
    apply: async (tx, events) => {
      for (const group of groupByType(events)) {
        const type = group[0]?.type ?? "";
        const handler = handlers.get(type);
        if (handler !== undefined) await handler.apply(tx, group);
        else for (const event of group) options.onSkipped?.(event.type);
      }
    },
  });
  const subscription = options.bus.subscribe({
    producer: options.producer,
    consumer: options.consumer,
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

/** Splits into runs of the same type: order is kept, and a handler can still work in batches. */
function groupByType(events: readonly StoredEvent[]): StoredEvent[][] {
  const groups: StoredEvent[][] = [];
  for (const event of events) {
    const last = groups.at(-1);
    if (last?.[0]?.type === event.type) last.push(event);
    else groups.push([event]);
  }
  return groups;
}
