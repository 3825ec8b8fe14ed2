import { startLoop } from "@fastgpu/lifecycle/loop";
import type { LoopNext } from "@fastgpu/lifecycle/loop";
import type { Logger } from "@fastgpu/telemetry/log";
import type { EventPage, EventRun, StoredEvent } from "./outbox.ts";
import { statement } from "./pool.ts";
import type { Pool, Querier } from "./pool.ts";
import { transaction } from "./transaction.ts";
import type { Tx } from "./transaction.ts";

/** Options of {@link startInbox}. */
export interface InboxOptions {
  /** Whose events these are. */
  readonly producer: string;
  readonly core: Pool;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /**
   * Applies consecutive events, in order, inside the transaction that also notes them as applied.
   * Throwing undoes both, and they come again. Types it does not know it skips.
   */
  readonly apply: (tx: Tx, events: readonly StoredEvent[]) => Promise<void>;
  /** Reads the producer's own log: `EventLog.List`. */
  readonly fetch: (afterSeq: bigint) => Promise<EventPage>;
  /** How often to look for events that the bus lost; 10 s. */
  readonly fillEveryMs?: number;
  /** Called after a commit with the last applied seq. */
  readonly onApplied?: (lastSeq: bigint) => void;
}

/** A consumer's place in one producer's events. */
export interface Inbox extends AsyncDisposable {
  /**
   * Takes events from the bus: late, doubled, out of order, with gaps. Resolves when all of them
   * are applied (now or before); rejects when they are not, and the bus may bring them again.
   */
  receive(run: EventRun): Promise<void>;
  /** Looks into the producer's log soon. */
  refresh(): void;
}

/** Most events applied in one transaction. */
const BATCH_EVENTS = 1_000;
/** Waiting events beyond this are dropped: the log has them. */
const QUEUE_EVENTS = 20_000;

interface Delivery {
  readonly run: EventRun;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Applies every event of a producer exactly once and in order. The last seq lies in the
 * transaction of the effect; a gap is filled from the producer's log, and so is whatever the bus
 * lost, at the start and every 10 s. Several replicas of a consumer may run one each: the inbox
 * row's lock puts them in line.
 */
export function startInbox(options: InboxOptions): Inbox {
  const fillEveryMs = options.fillEveryMs ?? 10_000;
  const queue: Delivery[] = [];
  const filler = createFiller(options, fillEveryMs);
  let queued = 0;

  const step = async (): Promise<LoopNext> => {
    if (filler.isDue()) await filler.fill();
    const deliveries = takeConsecutive(queue);
    for (const { run } of deliveries) queued -= run.events.length;
    if (deliveries.length === 0) return "idle";
    try {
      await filler.apply(joinRuns(deliveries));
      for (const delivery of deliveries) delivery.resolve();
    } catch (error) {
      for (const delivery of deliveries) delivery.reject(error);
      filler.demand();
      throw error;
    }
    return "again";
  };
  const loop = startLoop({
    name: `inbox of ${options.producer}`,
    stop: options.stop,
    log: options.log,
    idleMs: fillEveryMs,
    backoffMs: { first: 50, max: 5_000 },
    step,
  });
  const dropAll = (): void => {
    for (const delivery of queue.splice(0)) delivery.reject(new Error("the inbox is closed"));
  };
  void loop.done.then(dropAll);
  return {
    receive(run) {
      if (run.events.length === 0) return Promise.resolve();
      if (options.stop.aborted || queued + run.events.length > QUEUE_EVENTS) {
        filler.demand();
        return Promise.reject(new Error("the inbox takes no more events now"));
      }
      return new Promise((resolve, reject) => {
        queue.push({ run, resolve, reject });
        queued += run.events.length;
        loop.wake();
      });
    },
    refresh() {
      filler.demand();
      loop.wake();
    },
    async [Symbol.asyncDispose]() {
      await loop[Symbol.asyncDispose]();
      dropAll();
    },
  };
}

/** Applies runs, and reads the producer's log where something is missing. */
interface Filler {
  /** True at the start, when asked for, and every `fillEveryMs`. */
  isDue(): boolean;
  demand(): void;
  /** Applies whatever the producer's log has beyond what we have. */
  fill(): Promise<void>;
  /** Applies a run, after what is missing before it. Throws where that cannot be had. */
  apply(run: EventRun): Promise<void>;
}

function createFiller(options: InboxOptions, fillEveryMs: number): Filler {
  const applyAll = createApplier(options);
  let due = true;
  let filledAt = performance.now();
  const fill = async (): Promise<void> => {
    for (;;) {
      const { lastSeq } = await readPosition(options.core, options.producer);
      const page = await options.fetch(lastSeq);
      if (page.events.length === 0) break;
      const outcome = await applyAll(page);
      if (outcome.kind === "gap" || options.stop.aborted) break;
    }
    due = false;
    filledAt = performance.now();
  };
  return {
    fill,
    // A timer may ring a little early: that must not put the fill off by a whole turn.
    isDue: () => due || performance.now() - filledAt >= fillEveryMs * 0.9,
    demand() {
      due = true;
    },
    async apply(run) {
      let outcome = await applyAll(run);
      if (outcome.kind === "gap") {
        await fill();
        outcome = await applyAll(run);
      }
      if (outcome.kind === "applied") return;
      throw new Error(`events before ${outcome.firstSeq} are missing in the producer's log`);
    },
  };
}

/** Applies runs in transactions of at most 1,000 events. */
function createApplier(options: InboxOptions): (run: EventRun) => Promise<Applied> {
  // Halved when applying fails, so that one event that cannot be applied does not hold back those before it.
  let batch = BATCH_EVENTS;
  return async (run) => {
    let outcome: Applied = { kind: "applied", lastSeq: 0n };
    for (let from = 0; from < run.events.length;) {
      const part = { ...run, events: run.events.slice(from, from + batch) };
      try {
        outcome = await applyRun(options, part);
      } catch (error) {
        if (batch === 1) logBlocked(options, part, error);
        batch = Math.max(1, Math.floor(Math.min(batch, part.events.length) / 2));
        throw error;
      }
      if (outcome.kind === "gap") return outcome;
      from += part.events.length;
      batch = Math.min(BATCH_EVENTS, batch * 2);
      options.onApplied?.(outcome.lastSeq);
    }
    return outcome;
  };
}

function joinRuns(deliveries: readonly Delivery[]): EventRun {
  return {
    incarnation: deliveries[0]?.run.incarnation ?? 0,
    events: deliveries.flatMap((delivery) => delivery.run.events),
  };
}

/** The first delivery and those that continue it: under load one transaction takes many messages. */
function takeConsecutive(queue: Delivery[]): Delivery[] {
  const [first] = queue;
  if (first === undefined) return [];
  let count = 1;
  let events = first.run.events.length;
  for (; count < queue.length; count += 1) {
    const before = queue[count - 1]?.run;
    const next = queue[count]?.run;
    if (before === undefined || next === undefined) break;
    const continues = next.events[0]?.seq === (before.events.at(-1)?.seq ?? 0n) + 1n;
    if (!continues || next.incarnation !== before.incarnation) break;
    events += next.events.length;
    if (events > BATCH_EVENTS) break;
  }
  return queue.splice(0, count);
}

const ensurePosition = statement(
  "inbox_ensure",
  "INSERT INTO inbox (producer, incarnation, last_seq) VALUES ($1, 0, 0) ON CONFLICT DO NOTHING",
);
const lockPosition = statement<{ incarnation: number; last_seq: bigint }>(
  "inbox_lock",
  "SELECT incarnation, last_seq FROM inbox WHERE producer = $1 FOR UPDATE",
);
const selectPosition = statement<{ incarnation: number; last_seq: bigint }>(
  "inbox_read",
  "SELECT incarnation, last_seq FROM inbox WHERE producer = $1",
);
const savePosition = statement(
  "inbox_save",
  "UPDATE inbox SET incarnation = $2, last_seq = $3 WHERE producer = $1",
);

/** What a consumer has applied of a producer; nothing yet is incarnation 0, seq 0. */
export async function readPosition(
  db: Querier,
  producer: string,
): Promise<{ incarnation: number; lastSeq: bigint }> {
  const [row] = await db.query(selectPosition, [producer]);
  return { incarnation: row?.incarnation ?? 0, lastSeq: row?.last_seq ?? 0n };
}

type Applied =
  | { readonly kind: "applied"; readonly lastSeq: bigint }
  | { readonly kind: "gap"; readonly firstSeq: bigint };

async function applyRun(options: InboxOptions, run: EventRun): Promise<Applied> {
  return transaction(options.core, async (tx) => {
    let [position] = await tx.query(lockPosition, [options.producer]);
    if (position === undefined) {
      await tx.query(ensurePosition, [options.producer]);
      [position] = await tx.query(lockPosition, [options.producer]);
    }
    if (position === undefined) throw new Error("the inbox row is gone");
    const lastSeq = position.last_seq;
    if (run.incarnation < position.incarnation) {
      options.log.warn(
        { producer: options.producer, incarnation: run.incarnation },
        "events of an older incarnation refused",
      );
      return { kind: "applied", lastSeq };
    }
    const fresh = run.events.filter((event) => event.seq > lastSeq);
    const [first] = fresh;
    if (first === undefined) return { kind: "applied", lastSeq };
    if (first.seq !== lastSeq + 1n) return { kind: "gap", firstSeq: first.seq };
    const last = first.seq + BigInt(fresh.length - 1);
    if (fresh.at(-1)?.seq !== last) throw new Error("a run of events has a gap inside");
    await options.apply(tx, fresh);
    await tx.query(savePosition, [options.producer, run.incarnation, last]);
    return { kind: "applied", lastSeq: last };
  });
}

function logBlocked(options: InboxOptions, run: EventRun, error: unknown): void {
  const [event] = run.events;
  options.log.error(
    {
      err: error,
      producer: options.producer,
      seq: String(event?.seq),
      type: event?.type,
      event: event?.eventId,
    },
    "an event cannot be applied; the consumer waits at it",
  );
}
