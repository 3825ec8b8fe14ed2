import { randomBytes } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";
import { anId, aTenant } from "@fastgpu/testkit/factories";
import { manualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import type { TestDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import { eventually } from "@fastgpu/testkit/signals";
import fc from "fast-check";
import { expect, test } from "vitest";
import { startInbox } from "./inbox.ts";
import { appendEvents, confirmConsumer, listEvents, readEventHead, trimEvents } from "./outbox.ts";
import type { EventRun, NewEvent, StoredEvent } from "./outbox.ts";
import { openPool, statement } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { startRelay } from "./relay.ts";
import { transaction } from "./transaction.ts";

const never = new AbortController().signal;
const tenant = aTenant();

function anEvent(name: string, occurredMs = 1_000): NewEvent {
  return {
    eventId: anId("evt"),
    type: "fastgpu.test.Happened",
    aggregate: name,
    aggregateRevision: 7n,
    occurredMs,
    org: tenant.org,
    project: undefined,
    traceparent: "00-trace",
    payload: new Uint8Array([1, 2, 3]),
  };
}

const core = (db: TestDatabase, service = "demo"): Pool =>
  openPool({ url: db.urls[service]!.core, name: "test", log: quiet, max: 10 });

const append = (pool: Pool, ...names: string[]) =>
  transaction(pool, (tx) =>
    appendEvents(
      tx,
      names.map((name) => anEvent(name)),
    ),
  );

function relay(
  pool: Pool,
  publish: (run: EventRun) => Promise<void>,
  more: { batchSize?: number } = {},
) {
  return startRelay({
    producer: "demo",
    core: pool,
    // Soon after the events, so that the relay's own retention leaves them alone.
    clock: manualClock(60_000),
    log: quiet,
    stop: never,
    pollMs: 20,
    publish,
    ...more,
  });
}

test("an event comes back from the log as it was written, with seq 1", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  const event = anEvent("task-1");
  await transaction(pool, (tx) => appendEvents(tx, [event]));
  const published: EventRun[] = [];
  await using _relay = relay(pool, async (run) => void published.push(run));
  await eventually("published", () => published.length === 1);
  const page = await listEvents(pool, 0n, 10);
  expect(page.headSeq).toBe(1n);
  expect(page.incarnation).toBe(1);
  expect({ ...page.events[0], payload: [...page.events[0]!.payload] }).toEqual({
    ...event,
    seq: 1n,
    payload: [1, 2, 3],
  });
  expect(published[0]!.events[0]!.eventId).toBe(event.eventId);
});

test("a transaction that commits late is not skipped", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  const seen: string[] = [];
  await using sequencer = relay(
    pool,
    async (run) => void seen.push(...run.events.map((e) => e.aggregate)),
  );
  const wrote = Promise.withResolvers<void>();
  const mayCommit = Promise.withResolvers<void>();
  const late = transaction(pool, async (tx) => {
    await appendEvents(tx, [anEvent("late")]);
    wrote.resolve();
    await mayCommit.promise;
  });
  await wrote.promise;
  await append(pool, "early 1", "early 2");
  sequencer.wake();
  await eventually("the early ones are published", () => seen.length === 2);
  mayCommit.resolve();
  await late;
  sequencer.wake();
  await eventually("the late one is published", () => seen.length === 3);
  expect(seen).toEqual(["early 1", "early 2", "late"]);
  const { events } = await listEvents(pool, 0n, 10);
  expect(events.map((event) => event.seq)).toEqual([1n, 2n, 3n]);
});

test("rolled back events leave no gap, and many writers with two relays give one gapless log", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  await using _one = relay(pool, () => Promise.resolve(), { batchSize: 7 });
  await using _two = relay(pool, () => Promise.resolve(), { batchSize: 5 });
  const writers = Array.from({ length: 8 }, async (_, w) => {
    for (let i = 0; i < 25; i += 1) {
      const work = transaction(pool, async (tx) => {
        await appendEvents(tx, [anEvent(`w${w}`), anEvent(`w${w}`)]);
        if (i % 5 === 0) throw new Error("changed my mind");
      });
      await work.catch(() => undefined);
    }
  });
  await Promise.all(writers);
  const total = 8 * 20 * 2;
  await eventually(
    "all are in the log",
    async () => (await readEventHead(pool)).headSeq === BigInt(total),
  );
  const { events } = await listEvents(pool, 0n, 1_000);
  expect(events.map((event) => Number(event.seq))).toEqual(
    Array.from({ length: total }, (_, i) => i + 1),
  );
  expect(new Set(events.map((event) => event.eventId)).size).toBe(total);
});

test("a bus that is down holds nothing up, and gets everything in order once it is back", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  let up = false;
  const seen: bigint[] = [];
  await using sequencer = relay(pool, async (run) => {
    if (!up) throw new Error("the bus is down");
    seen.push(...run.events.map((event) => event.seq));
  });
  await append(pool, "a", "b");
  sequencer.wake();
  await eventually("sequenced", async () => (await readEventHead(pool)).headSeq === 2n);
  await append(pool, "c");
  sequencer.wake();
  await eventually("sequenced too", async () => (await readEventHead(pool)).headSeq === 3n);
  up = true;
  await eventually("published", () => seen.length === 3);
  expect(seen).toEqual([1n, 2n, 3n]);
});

test("what a relay did not publish before it died, the next one does", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  await append(pool, "a", "b", "c");
  {
    await using _first = relay(pool, () => Promise.reject(new Error("down")));
    await eventually("sequenced", async () => (await readEventHead(pool)).headSeq === 3n);
  }
  const seen: bigint[] = [];
  await using _second = relay(
    pool,
    async (run) => void seen.push(...run.events.map((event) => event.seq)),
  );
  await eventually("published", () => seen.length === 3);
});

test("retention keeps young events, unpublished ones, and those a consumer has not confirmed", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = core(db);
  await transaction(pool, (tx) =>
    appendEvents(tx, [
      anEvent("old", 1_000),
      anEvent("old", 2_000),
      anEvent("old", 3_000),
      anEvent("young", 50_000),
    ]),
  );
  const trim = () => trimEvents(pool, { nowMs: 60_000, keepMs: 20_000, limit: 100 });
  {
    await using _relay = relay(pool, () => Promise.reject(new Error("down")));
    await eventually("sequenced", async () => (await readEventHead(pool)).headSeq === 4n);
    expect(await trim(), "nothing is published").toBe(0);
  }
  {
    let published = 0;
    await using _relay = relay(pool, async (run) => void (published += run.events.length));
    await eventually("published", () => published === 4);
  }
  await confirmConsumer(pool, { consumer: "billing", seq: 2n, nowMs: 1 });
  await confirmConsumer(pool, { consumer: "billing", seq: 1n, nowMs: 2 });
  await confirmConsumer(pool, { consumer: "monitor", seq: 4n, nowMs: 1 });
  expect(await trim(), "billing has only two").toBe(2);
  await confirmConsumer(pool, { consumer: "billing", seq: 4n, nowMs: 3 });
  expect(await trim(), "one is young").toBe(1);
  const tooOld: unknown = await listEvents(pool, 2n, 10).catch((error: unknown) => error);
  expect(tooOld instanceof Fault && tooOld.reason).toBe("REVISION_TOO_OLD");
  expect((await listEvents(pool, 3n, 10)).events.map((event) => event.aggregate)).toEqual([
    "young",
  ]);
});

const applied = "CREATE TABLE applied (n bigint GENERATED ALWAYS AS IDENTITY, seq bigint)";
const note = statement(
  "note_applied",
  "INSERT INTO applied (seq) SELECT * FROM unnest($1::bigint[])",
);
const readNotes = statement<{ seq: bigint }>("read_applied", "SELECT seq FROM applied ORDER BY n");
const makeNotes = statement("make_applied", applied);

async function consumerPool(db: TestDatabase): Promise<Pool> {
  await using owner = openPool({ url: db.urls["demo"]!.owner, name: "owner", log: quiet });
  await owner.query(makeNotes);
  return core(db);
}

function numbered(count: number): StoredEvent[] {
  return Array.from({ length: count }, (_, i) => ({ ...anEvent(`e${i + 1}`), seq: BigInt(i + 1) }));
}

test("I12: doubled, reordered, lost and late deliveries give every event once and in order", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = await consumerPool(db);
  const count = 60;
  const log = numbered(count);
  const deliveries = fc.array(
    fc.record({
      from: fc.nat(count - 1),
      length: fc.integer({ min: 1, max: 15 }),
      fails: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  let producer = 0;
  await fc.assert(
    fc.asyncProperty(deliveries, fc.nat(count), async (plan, visibleAtFirst) => {
      producer += 1;
      await pool.query(statement("clear_applied", "DELETE FROM applied"));
      let visible = visibleAtFirst;
      let failing = false;
      await using inbox = startInbox({
        producer: `p${producer}`,
        core: pool,
        log: quiet,
        stop: never,
        apply: async (tx, events) => {
          await tx.query(note, [events.map((event) => event.seq)]);
          if (failing) {
            failing = false;
            throw new Error("a failure after the effect");
          }
        },
        fetch: (after) =>
          Promise.resolve({
            incarnation: 1,
            headSeq: BigInt(visible),
            events: log.filter((event) => event.seq > after && event.seq <= visible).slice(0, 9),
          }),
      });
      for (const step of plan) {
        const events = log.slice(step.from, step.from + step.length);
        // What the bus carries is in the producer's log: it was committed before it was published.
        visible = Math.max(visible, step.from + events.length);
        failing = step.fails;
        await inbox.receive({ incarnation: 1, events }).catch(() => undefined);
      }
      visible = count;
      failing = false;
      inbox.refresh();
      await eventually("all applied", async () => (await pool.query(readNotes)).length >= count);
      const notes = (await pool.query(readNotes)).map((row) => Number(row.seq));
      expect(notes).toEqual(Array.from({ length: count }, (_, i) => i + 1));
    }),
    { numRuns: 25 },
  );
});

test("events of an older incarnation change nothing", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = await consumerPool(db);
  const log = numbered(4);
  await using inbox = startInbox({
    producer: "restored",
    core: pool,
    log: quiet,
    stop: never,
    apply: async (tx, events) => void (await tx.query(note, [events.map((event) => event.seq)])),
    fetch: () => Promise.resolve({ incarnation: 2, headSeq: 0n, events: [] }),
  });
  await inbox.receive({ incarnation: 2, events: log.slice(0, 2) });
  await inbox.receive({ incarnation: 1, events: log.slice(2, 4) });
  expect((await pool.query(readNotes)).map((row) => row.seq)).toEqual([1n, 2n]);
});

test("two replicas of a consumer apply each event once", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using pool = await consumerPool(db);
  const log = numbered(200);
  const replica = () =>
    startInbox({
      producer: "shared",
      core: pool,
      log: quiet,
      stop: never,
      apply: async (tx, events) => void (await tx.query(note, [events.map((event) => event.seq)])),
      fetch: (after) =>
        Promise.resolve({
          incarnation: 1,
          headSeq: 200n,
          events: log.filter((event) => event.seq > after).slice(0, 20),
        }),
    });
  await using one = replica();
  await using two = replica();
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => {
      const inbox = randomBytes(1)[0]! % 2 === 0 ? one : two;
      return inbox.receive({ incarnation: 1, events: log.slice(i * 10, i * 10 + 10) });
    }),
  );
  const notes = (await pool.query(readNotes)).map((row) => Number(row.seq));
  expect(notes).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
});
