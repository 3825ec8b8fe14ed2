import { rename } from "node:fs/promises";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import type { Fault } from "@fastgpu/domain/fault";
import { readPosition } from "@fastgpu/postgres/inbox";
import { appendEvents, listEvents, readEventHead } from "@fastgpu/postgres/outbox";
import { openPool, statement } from "@fastgpu/postgres/pool";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { manualClock } from "@fastgpu/testkit/clock";
import { testDatabase } from "@fastgpu/testkit/database";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { privateNatsServer, privatePostgres } from "@fastgpu/testkit/servers";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { expect, test } from "vitest";
import type { Bus } from "./bus.ts";
import { on, startConsumer } from "./consumer.ts";
import { createMemoryBus } from "./memory-bus.ts";
import { openNatsBus } from "./nats-bus.ts";
import { startBusRelay } from "./relay.ts";
import { newEvent, topics } from "./topics.ts";

const never = new AbortController().signal;
const org = anId("org");

const makeApplied = statement(
  "make_applied",
  "CREATE TABLE applied (n bigint GENERATED ALWAYS AS IDENTITY, name text)",
);
const note = statement(
  "note_applied",
  "INSERT INTO applied (name) SELECT * FROM unnest($1::text[])",
);
const readApplied = statement<{ name: string }>(
  "read_applied",
  "SELECT name FROM applied ORDER BY n",
);

const happened = (name: string) =>
  newEvent(
    topics.organizationCreated,
    { org, displayName: name },
    { aggregate: org, aggregateRevision: 1n, occurredMs: 1, org },
  );

const say = (producer: Pool, name: string) =>
  transaction(producer, (tx) => appendEvents(tx, [happened(name)]));

/** What the consumer has applied, in order. */
const appliedBy = async (consumer: Pool) =>
  (await consumer.query(readApplied)).map((row) => row.name);

/** Starts the producer's relay and the consumer, joined by a bus each. */
function join2(
  pools: { producer: Pool; consumer: Pool },
  buses: { producer: Bus; consumer: Bus },
  fillEveryMs: number,
) {
  const relay = startBusRelay({
    producer: "producer",
    core: pools.producer,
    clock: manualClock(),
    log: quiet,
    stop: never,
    pollMs: 20,
    bus: buses.producer,
  });
  const fills = namedSignals();
  const consumer = startConsumer({
    consumer: "consumer",
    producer: "producer",
    core: pools.consumer,
    log: quiet,
    stop: never,
    bus: buses.consumer,
    fillEveryMs,
    fetch: (after) => {
      fills.fire("fetched");
      return listEvents(pools.producer, after, 50);
    },
    handlers: [
      on(topics.organizationCreated, async (tx, received) => {
        await tx.query(note, [received.map(({ payload }) => payload.displayName)]);
      }),
    ],
  });
  return {
    fills,
    async [Symbol.asyncDispose]() {
      await relay[Symbol.asyncDispose]();
      await consumer[Symbol.asyncDispose]();
    },
  };
}

async function poolsOf(db: { urls: Readonly<Record<string, { core: string; owner: string }>> }) {
  const { producer, consumer } = db.urls;
  if (producer === undefined || consumer === undefined) throw new Error("no such services");
  await using owner = openPool({ url: consumer.owner, name: "owner", log: quiet });
  await owner.query(makeApplied);
  return {
    producer: openPool({ url: producer.core, name: "producer", log: quiet }),
    consumer: openPool({ url: consumer.core, name: "consumer", log: quiet }),
  };
}

test("I12: NATS killed and its whole store wiped, stream and consumer deleted: each event once, in order", async () => {
  await using db = await testDatabase({ services: ["producer", "consumer"] });
  const pools = await poolsOf(db);
  await using producer = pools.producer;
  await using consumer = pools.consumer;
  await using server = await privateNatsServer();
  await using one = openNatsBus({ url: server.url, name: "producer", log: quiet });
  await using two = openNatsBus({ url: server.url, name: "consumer", log: quiet });
  await Promise.all([one.connected(), two.connected()]);
  // Fills by time are off: what arrives came by the bus, or because a set-up or a gap asked for it.
  await using _joined = join2(pools, { producer: one, consumer: two }, 3_600_000);
  const expected: string[] = [];
  const speak = async (label: string, count: number): Promise<void> => {
    for (let i = 1; i <= count; i += 1) {
      expected.push(`${label} ${i}`);
      await say(producer, `${label} ${i}`);
    }
  };
  const arrived = () =>
    eventually(
      `${expected.length} applied`,
      async () => (await appliedBy(consumer)).length >= expected.length,
    );

  await speak("calm", 20);
  await arrived();

  const before = server.pid;
  // Moved away in one step: the server still writes into its store.
  await rename(join(server.dataDir, "jetstream"), join(server.dataDir, "wiped"));
  process.kill(before, "SIGKILL");
  await speak("while away", 30);
  await eventually("another server runs", () => server.pid !== before);
  await speak("after the wipe", 20);
  await arrived();

  const url = new URL(server.url);
  const admin = await connect({ servers: url.host, user: url.username, pass: url.password });
  const manager = await jetstreamManager(admin);
  await manager.streams.delete("fastgpu_events");
  await speak("without a stream", 20);
  await arrived();

  await manager.consumers.delete("fastgpu_events", "consumer_from_producer");
  await speak("without a consumer", 20);
  await arrived();
  await manager.streams.purge("fastgpu_events");
  await speak("after a purge", 5);
  await arrived();
  await admin.close();

  expect(await appliedBy(consumer)).toEqual(expected);
});

test("a bus that loses every message costs time, not events", async () => {
  await using db = await testDatabase({ services: ["producer", "consumer"] });
  const pools = await poolsOf(db);
  await using producer = pools.producer;
  await using consumer = pools.consumer;
  // Two buses that are not connected to each other.
  await using deaf = createMemoryBus();
  await using mute = createMemoryBus();
  await using _joined = join2(pools, { producer: deaf, consumer: mute }, 20);
  const names = Array.from({ length: 40 }, (_, i) => `event ${i}`);
  for (const name of names) await say(producer, name);
  await eventually("all applied", async () => (await appliedBy(consumer)).length === names.length);
  expect(await appliedBy(consumer)).toEqual(names);
});

test("kill -9 of Postgres between statements loses nothing acknowledged and doubles nothing", async () => {
  await using server = await privatePostgres();
  await using db = await testDatabase({
    services: ["producer", "consumer"],
    server: server.adminUrl,
  });
  const pools = await poolsOf(db);
  await using producer = pools.producer;
  await using consumer = pools.consumer;
  await using bus = createMemoryBus();
  await using _joined = join2(pools, { producer: bus, consumer: bus }, 50);

  const acknowledged = new Set<string>();
  const unknown = new Set<string>();
  const done = new AbortController();
  const set = namedSignals();
  const writers = Array.from({ length: 4 }, async (_, w) => {
    for (let i = 0; !done.signal.aborted; i += 1) {
      const name = `w${w} ${i}`;
      try {
        await say(producer, name);
        acknowledged.add(name);
        set.fire("acknowledged");
      } catch (error) {
        // Only "committed or not, nobody knows" may leave something behind.
        if ((error as Fault).message.includes("unknown")) unknown.add(name);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  });
  for (let kill = 1; kill <= 4; kill += 1) {
    await set.fired("acknowledged", set.count("acknowledged") + 60);
    const before = server.pid;
    process.kill(before, "SIGKILL");
    await eventually("Postgres runs again", () => server.pid !== before);
  }
  await set.fired("acknowledged", set.count("acknowledged") + 60);
  done.abort();
  await Promise.all(writers);

  const head = await eventually("the outbox is empty and all is applied", async () => {
    // In this order: a head read before the outbox was empty may not be the last one.
    const [left] = await producer.query(
      statement<{ n: bigint }>("left", "SELECT count(*) AS n FROM outbox"),
    );
    const { headSeq } = await readEventHead(producer);
    const { lastSeq } = await readPosition(consumer, "producer");
    return left?.n === 0n && headSeq === lastSeq && headSeq;
  });
  const applied = await appliedBy(consumer);
  expect(applied).toHaveLength(Number(head));
  expect(new Set(applied).size, "no event twice").toBe(applied.length);
  for (const name of acknowledged) expect(applied).toContain(name);
  for (const name of applied) expect(acknowledged.has(name) || unknown.has(name), name).toBe(true);
});
