import { Fault } from "@fastgpu/domain/fault";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { EventId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "./pool.ts";
import type { Querier } from "./pool.ts";
import type { Tx } from "./transaction.ts";

/** A fact as the service that owns it writes it down, in the transaction that made it true. */
export interface NewEvent {
  readonly eventId: EventId;
  /** Full name of the payload message. */
  readonly type: string;
  /** Id of what the event is about. */
  readonly aggregate: string;
  readonly aggregateRevision: bigint;
  /** By the service's Clock. */
  readonly occurredMs: number;
  readonly org: OrgId | undefined;
  readonly project: ProjectId | undefined;
  readonly traceparent: string;
  /** The serialized payload message. */
  readonly payload: Uint8Array;
}

/** A fact in its final place of the producer's log. */
export interface StoredEvent extends NewEvent {
  /** 1, 2, 3, … without a gap. */
  readonly seq: bigint;
}

/** Consecutive events of one producer. */
export interface EventRun {
  /** Raised by a restore; events of an older one are refused. */
  readonly incarnation: number;
  readonly events: readonly StoredEvent[];
}

/** The columns of `outbox` that a writer fills, in the order of {@link eventArrays}. */
export const outboxColumns =
  "event_id, type, aggregate, aggregate_revision, occurred_ms, org_id, project_id, traceparent, payload";

/**
 * For one-statement writes: the source of rows from parameters `$first` to `$first + 8`.
 * `INSERT INTO outbox (${outboxColumns}) SELECT e.* FROM ${outboxUnnest(5)} e JOIN changed …`.
 * Select from the CTE of the state change: the id is then taken after its row lock, so that the
 * events of one aggregate keep the order of its changes.
 */
export function outboxUnnest(first: number): string {
  const types = ["uuid", "text", "text", "bigint", "bigint", "uuid", "uuid", "text", "bytea"];
  return `unnest(${types.map((type, i) => `$${first + i}::${type}[]`).join(", ")})`;
}

/** The nine parameters of {@link outboxUnnest}. */
export function eventArrays(events: readonly NewEvent[]): unknown[] {
  return [
    events.map((event) => idToUuid(event.eventId)),
    events.map((event) => event.type),
    events.map((event) => event.aggregate),
    events.map((event) => event.aggregateRevision),
    events.map((event) => event.occurredMs),
    events.map((event) => (event.org === undefined ? null : idToUuid(event.org))),
    events.map((event) => (event.project === undefined ? null : idToUuid(event.project))),
    events.map((event) => event.traceparent),
    events.map((event) => asBuffer(event.payload)),
  ];
}

const append = statement(
  "outbox_append",
  `INSERT INTO outbox (${outboxColumns}) SELECT * FROM ${outboxUnnest(1)}`,
);

/** Appends events in the transaction of the change that they tell. Wake the relay after the commit. */
export async function appendEvents(tx: Tx, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  await tx.query(append, eventArrays(events));
}

/** A row of `event_log` as the driver gives it. */
export interface EventRow {
  readonly seq: bigint;
  readonly event_id: string;
  readonly type: string;
  readonly aggregate: string;
  readonly aggregate_revision: bigint;
  readonly occurred_ms: bigint;
  readonly org_id: string | null;
  readonly project_id: string | null;
  readonly traceparent: string;
  readonly payload: Buffer;
}

/** A row as a value. */
export function storedEvent(row: EventRow): StoredEvent {
  return {
    seq: row.seq,
    eventId: uuidToId("evt", row.event_id),
    type: row.type,
    aggregate: row.aggregate,
    aggregateRevision: row.aggregate_revision,
    occurredMs: Number(row.occurred_ms),
    org: row.org_id === null ? undefined : uuidToId("org", row.org_id),
    project: row.project_id === null ? undefined : uuidToId("proj", row.project_id),
    traceparent: row.traceparent,
    payload: row.payload,
  };
}

/** Where a producer's log stands. */
export interface EventHead {
  readonly incarnation: number;
  readonly headSeq: bigint;
  readonly publishedSeq: bigint;
  /** Events up to here are gone. */
  readonly trimmedSeq: bigint;
}

const readHead = statement<{
  incarnation: number;
  head_seq: bigint;
  published_seq: bigint;
  trimmed_seq: bigint;
}>("event_head", "SELECT incarnation, head_seq, published_seq, trimmed_seq FROM event_head");

/** Reads where the log stands. */
export async function readEventHead(db: Querier): Promise<EventHead> {
  const [row] = await db.query(readHead);
  if (row === undefined) throw new Fault("INTERNAL", "event_head has no row");
  return {
    incarnation: row.incarnation,
    headSeq: row.head_seq,
    publishedSeq: row.published_seq,
    trimmedSeq: row.trimmed_seq,
  };
}

const list = statement<EventRow>(
  "event_log_list",
  `SELECT seq, event_id, type, aggregate, aggregate_revision, occurred_ms, org_id, project_id, traceparent, payload
   FROM (
     SELECT *, sum(octet_length(payload)) OVER (ORDER BY seq) - octet_length(payload) AS bytes_before
     FROM (SELECT * FROM event_log WHERE seq > $1 ORDER BY seq LIMIT $2) page
   ) sized
   WHERE bytes_before < $3
   ORDER BY seq`,
);

/** A page of the log, below the size limit of a message: 2 MiB of payloads. */
const PAGE_BYTES = 2 * 1024 * 1024;

/** What {@link listEvents} answers. */
export interface EventPage extends EventRun {
  readonly headSeq: bigint;
}

/**
 * The events after a position, in order, at most `limit` (for `EventLog.List`, Watch and gap filling).
 * A position that retention has removed is a Fault REVISION_TOO_OLD: start from the present state.
 */
export async function listEvents(db: Querier, afterSeq: bigint, limit: number): Promise<EventPage> {
  const rows = await db.query(list, [afterSeq, limit, PAGE_BYTES]);
  // Read after the events: the head may only be ahead of them, and trimming shows.
  const head = await readEventHead(db);
  if (afterSeq < head.trimmedSeq) {
    throw new Fault("REVISION_TOO_OLD", `events up to ${head.trimmedSeq} are no longer kept`, {
      hint: "read the present state and go on from its revision",
      metadata: { oldest: String(head.trimmedSeq) },
    });
  }
  return { incarnation: head.incarnation, headSeq: head.headSeq, events: rows.map(storedEvent) };
}

const confirm = statement(
  "event_consumer_confirm",
  `INSERT INTO event_consumers (consumer, confirmed_seq, confirmed_ms) VALUES ($1, $2, $3)
   ON CONFLICT (consumer) DO UPDATE SET confirmed_seq = excluded.confirmed_seq, confirmed_ms = excluded.confirmed_ms
   WHERE event_consumers.confirmed_seq <= excluded.confirmed_seq`,
);

/**
 * Notes that a consumer has applied everything up to `seq`; the first note registers it. Call it
 * from `ListEvents`, whose `after_seq` says exactly that. Retention waits for every consumer.
 */
export async function confirmConsumer(
  db: Querier,
  options: { consumer: string; seq: bigint; nowMs: number },
): Promise<void> {
  await db.query(confirm, [options.consumer, options.seq, options.nowMs]);
}

const trim = statement<{ trimmed: bigint }>(
  "event_log_trim",
  `WITH bound AS (
     SELECT least(
       coalesce((SELECT min(confirmed_seq) FROM event_consumers), (SELECT head_seq FROM event_head)),
       (SELECT published_seq FROM event_head),
       (SELECT trimmed_seq FROM event_head) + $2
     ) AS seq
   ), gone AS (
     DELETE FROM event_log USING bound
     WHERE event_log.seq <= bound.seq
       AND event_log.seq < coalesce((SELECT min(seq) FROM event_log WHERE occurred_ms >= $1), bound.seq + 1)
     RETURNING event_log.seq
   )
   UPDATE event_head SET trimmed_seq = greatest(trimmed_seq, (SELECT max(seq) FROM gone))
   WHERE EXISTS (SELECT 1 FROM gone)
   RETURNING (SELECT count(*) FROM gone) AS trimmed`,
);

/** How long events are kept at least: 7 days. */
export const EVENT_RETENTION_MS = 7 * 24 * 3_600_000;

/**
 * Removes at most `limit` of the oldest events that are older than the retention and confirmed by
 * every registered consumer. Returns how many went.
 */
export async function trimEvents(
  db: Querier,
  options: { nowMs: number; limit: number; keepMs?: number },
): Promise<number> {
  const before = options.nowMs - (options.keepMs ?? EVENT_RETENTION_MS);
  const [row] = await db.query(trim, [before, options.limit]);
  return Number(row?.trimmed ?? 0n);
}

const raise = statement<{ incarnation: number }>(
  "event_incarnation_raise",
  "UPDATE event_head SET incarnation = greatest(incarnation + 1, $1) RETURNING incarnation",
);

/** After a restore, before any service starts: a new incarnation, at least `floor`. Returns it. */
export async function raiseIncarnation(db: Querier, floor: number): Promise<number> {
  const [row] = await db.query(raise, [floor]);
  if (row === undefined) throw new Fault("INTERNAL", "event_head has no row");
  return row.incarnation;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
