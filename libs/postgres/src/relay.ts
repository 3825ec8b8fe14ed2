import type { Clock } from "@fastgpu/domain/clock";
import { startLoop } from "@fastgpu/lifecycle/loop";
import type { Loop, LoopNext } from "@fastgpu/lifecycle/loop";
import type { Logger } from "@fastgpu/telemetry/log";
import { listEvents, readEventHead, storedEvent, trimEvents } from "./outbox.ts";
import type { EventRow, EventRun, StoredEvent } from "./outbox.ts";
import { statement } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { pruneRequests } from "./requests.ts";
import { openSession } from "./session.ts";
import type { Session } from "./session.ts";

/** Options of {@link startRelay}. */
export interface RelayOptions {
  /** The service's name: the producer of its events. */
  readonly producer: string;
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /** Hands consecutive events to the bus; resolves when the bus has them. Errors are retried. */
  readonly publish: (run: EventRun) => Promise<void>;
  /** Called with newly sequenced events, in order, after their commit: in-process followers (Watch, dirty marks). */
  readonly onEvents?: (run: EventRun) => void;
  /** The poll that covers a lost wake and other replicas' writes. */
  readonly pollMs?: number;
  /** Greatest number of events given a seq at once. */
  readonly batchSize?: number;
}

/** A running relay. */
export interface Relay extends AsyncDisposable {
  /** Call after each commit that appended events; calls are coalesced. */
  wake(): void;
}

/** Most events of one message on the bus. */
const MESSAGE_EVENTS = 500;
const MESSAGE_BYTES = 1024 * 1024;
/** Events kept in memory between sequencing and publishing; beyond, the log is read again. */
const BUFFER_EVENTS = 5_000;
/** How often old events and request ids are removed. */
const TRIM_EVERY_MS = 600_000;
/** How rarely the published position is written: a lost one only costs publishing twice. */
const SAVE_EVERY_MS = 1_000;

/** What the sequencer tells the publisher. */
interface Handover {
  /** False while another process holds the relay lock. */
  holding: boolean;
  /** Raised with each lock gained: another process may have published meanwhile. */
  terms: number;
  headSeq: bigint;
  readonly buffer: StoredEvent[];
}

/**
 * Gives committed outbox rows their seq and publishes them in order. Only the holder of the
 * service's relay lock works; its connection is the lock. Sequencing never waits for the bus:
 * consumers can always read the log.
 */
export function startRelay(options: RelayOptions): Relay {
  const handover: Handover = { holding: false, terms: 0, headSeq: 0n, buffer: [] };
  const publisher = startPublisher(options, handover);
  const sequencer = startSequencer(options, handover, publisher);
  return {
    wake: () => sequencer.wake(),
    async [Symbol.asyncDispose]() {
      await publisher[Symbol.asyncDispose]();
      await sequencer[Symbol.asyncDispose]();
    },
  };
}

const tryLock = statement<{ locked: boolean }>(
  "relay_lock",
  "SELECT pg_try_advisory_lock(hashtextextended($1 || '.relay', 0)) AS locked",
);
const peek = statement<{ waiting: boolean }>(
  "relay_peek",
  "SELECT EXISTS (SELECT FROM outbox) AS waiting",
);
const lockHead = statement<{ incarnation: number; head_seq: bigint }>(
  "relay_head",
  "SELECT incarnation, head_seq FROM event_head FOR UPDATE",
);

/** Whatever is committed now, in order of id; what commits later gets a later seq, whatever its id. */
const sequence = statement<EventRow>(
  "relay_sequence",
  `WITH taken AS (
     DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT $2) RETURNING *
   ), numbered AS (
     SELECT $1::bigint + row_number() OVER (ORDER BY id) AS seq, taken.* FROM taken
   ), logged AS (
     INSERT INTO event_log (seq, event_id, type, aggregate, aggregate_revision, occurred_ms, org_id, project_id,
                            traceparent, payload)
     SELECT seq, event_id, type, aggregate, aggregate_revision, occurred_ms, org_id, project_id, traceparent, payload
     FROM numbered
   ), moved_head AS (
     UPDATE event_head SET head_seq = head_seq + (SELECT count(*) FROM numbered)
   )
   SELECT seq, event_id, type, aggregate, aggregate_revision, occurred_ms, org_id, project_id, traceparent, payload
   FROM numbered ORDER BY seq`,
);

function startSequencer(options: RelayOptions, handover: Handover, publisher: Loop): Loop {
  const batchSize = options.batchSize ?? 1_000;
  let session: Session | undefined;
  let trimmedAt = 0;
  const step = async (): Promise<LoopNext> => {
    if (session === undefined || session.lost.aborted) {
      handover.holding = false;
      session = await takeLock(options);
      if (session === undefined) return "idle";
      handover.holding = true;
      handover.terms += 1;
      publisher.wake();
    }
    const run = await sequenceOnce(session, batchSize).catch(async (error: unknown) => {
      // Whatever state the connection is in, the next step starts with a new one.
      await session?.[Symbol.asyncDispose]();
      throw error;
    });
    const last = run.events.at(-1);
    if (last !== undefined) {
      handover.headSeq = last.seq;
      handover.buffer.push(...run.events);
      handover.buffer.splice(0, Math.max(0, handover.buffer.length - BUFFER_EVENTS));
      publisher.wake();
      options.onEvents?.(run);
    }
    if (run.events.length === batchSize) return "again";
    if (options.clock.nowMs() - trimmedAt >= TRIM_EVERY_MS) {
      trimmedAt = options.clock.nowMs();
      await trimEvents(options.core, { nowMs: trimmedAt, limit: 10_000 });
      await pruneRequests(options.core, { nowMs: trimmedAt, limit: 10_000 });
    }
    return "idle";
  };
  const loop = startLoop({
    name: `${options.producer} relay`,
    stop: options.stop,
    log: options.log,
    idleMs: options.pollMs ?? 1_000,
    backoffMs: { first: 20, max: 2_000 },
    step,
  });
  return {
    wake: () => loop.wake(),
    done: loop.done,
    async [Symbol.asyncDispose]() {
      await loop[Symbol.asyncDispose]();
      await session?.[Symbol.asyncDispose]();
    },
  };
}

async function takeLock(options: RelayOptions): Promise<Session | undefined> {
  const { url } = options.core;
  const session = await openSession({ url, name: `${options.producer} relay`, log: options.log });
  const [row] = await session.query(tryLock, [options.producer]);
  if (row?.locked === true) return session;
  await session[Symbol.asyncDispose]();
  return undefined;
}

async function sequenceOnce(session: Session, batchSize: number): Promise<EventRun> {
  const [found] = await session.query(peek);
  if (found?.waiting !== true) return { incarnation: 0, events: [] };
  await session.command("BEGIN");
  const [head] = await session.query(lockHead);
  if (head === undefined) throw new Error("event_head has no row");
  const rows = await session.query(sequence, [head.head_seq, batchSize]);
  await session.command("COMMIT");
  return { incarnation: head.incarnation, events: rows.map(storedEvent) };
}

const savePublished = statement(
  "relay_published",
  "UPDATE event_head SET published_seq = $1 WHERE published_seq < $1 AND incarnation = $2",
);

interface Position {
  readonly seq: bigint;
  readonly incarnation: number;
}

function startPublisher(options: RelayOptions, handover: Handover): Loop {
  let position: Position | undefined;
  let term = 0;
  let saved = { seq: 0n, atMs: 0 };

  const save = async (): Promise<void> => {
    if (position === undefined || position.seq === saved.seq) return;
    await options.core.query(savePublished, [position.seq, position.incarnation]);
    saved = { seq: position.seq, atMs: performance.now() };
  };
  const step = async (): Promise<LoopNext> => {
    if (!handover.holding) return "idle";
    if (position === undefined || term !== handover.terms) {
      term = handover.terms;
      const head = await readEventHead(options.core);
      position = { seq: head.publishedSeq, incarnation: head.incarnation };
      saved = { seq: head.publishedSeq, atMs: performance.now() };
      if (head.headSeq > handover.headSeq) handover.headSeq = head.headSeq;
    }
    const next = await nextRun(options.core, handover, position);
    const last = next.events.at(-1);
    if (last === undefined) return "idle";
    await options.publish(next);
    position = { seq: last.seq, incarnation: next.incarnation };
    if (performance.now() - saved.atMs >= SAVE_EVERY_MS) await save();
    return "again";
  };
  const loop = startLoop({
    name: `${options.producer} publisher`,
    stop: options.stop,
    log: options.log,
    // Only the sequencer's wakes bring work.
    idleMs: 60_000,
    backoffMs: { first: 50, max: 5_000 },
    step,
  });
  return {
    wake: () => loop.wake(),
    done: loop.done,
    async [Symbol.asyncDispose]() {
      await loop[Symbol.asyncDispose]();
      await save().catch((error: unknown) =>
        options.log.debug({ err: error }, "position not saved"),
      );
    },
  };
}

/** The next message: from memory where it continues, else from the log. */
async function nextRun(core: Pool, handover: Handover, position: Position): Promise<EventRun> {
  if (position.seq >= handover.headSeq) return { incarnation: position.incarnation, events: [] };
  const { buffer } = handover;
  const from = buffer.findIndex((event) => event.seq === position.seq + 1n);
  if (from >= 0) {
    const events = clip(buffer.slice(from, from + MESSAGE_EVENTS));
    buffer.splice(0, from + events.length);
    return { incarnation: position.incarnation, events };
  }
  const page = await listEvents(core, position.seq, MESSAGE_EVENTS);
  return { incarnation: page.incarnation, events: clip(page.events) };
}

function clip(events: readonly StoredEvent[]): StoredEvent[] {
  let bytes = 0;
  const over = events.findIndex((event, i) => {
    bytes += event.payload.byteLength;
    return i > 0 && bytes > MESSAGE_BYTES;
  });
  return over < 0 ? [...events] : events.slice(0, over);
}
