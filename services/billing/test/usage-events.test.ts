import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { audit as auditAll, openAuditor } from "@fastgpu/auditor/audit";
import { idToUuid } from "@fastgpu/domain/ids";
import type { AttemptId, GpuId } from "@fastgpu/domain/ids";
import { segmentAmountNanos } from "@fastgpu/domain/money";
import type { Bus } from "@fastgpu/events/bus";
import { openNatsBus } from "@fastgpu/events/nats-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { newEvent, topics } from "@fastgpu/events/topics";
import { readPosition } from "@fastgpu/postgres/inbox";
import { readEventHead } from "@fastgpu/postgres/outbox";
import type { EventRun, NewEvent } from "@fastgpu/postgres/outbox";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { createTracing } from "@fastgpu/telemetry/tracing";
import { InMemorySpanExporter } from "@opentelemetry/sdk-trace";
import { testBus, testNats } from "@fastgpu/testkit/bus";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { privateNatsServer } from "@fastgpu/testkit/servers";
import { eventually } from "@fastgpu/testkit/signals";
import { expect, test } from "vitest";
import { createHolds } from "../src/holds/create-holds.ts";
import { applySchedulerEvents, consumeSchedulerEvents } from "../src/on/scheduler-events.ts";
import { readTaskCosts } from "../src/store/task-costs.ts";
import { applyUsage } from "../src/usage/apply-usage.ts";
import {
  aCustomer,
  aCut,
  aHoldFor,
  audit,
  cutEvent,
  money,
  openProducer,
  openTestBilling,
  usd,
} from "./support.ts";
import type { Customer, TestBilling, TestProducer } from "./support.ts";

const hourlyNanos = 360_000_000n;

/** What attempts did: events in the scheduler's order, and what they must cost. */
interface Story {
  readonly events: readonly NewEvent[];
  readonly records: number;
  readonly usedNanos: bigint;
  readonly chargedNanos: bigint;
}

/** Attempts with two GPUs each, cut every minute in turn; every third one stays beyond its hold. */
async function tell(
  billing: TestBilling,
  customers: readonly Customer[],
  size: { readonly attempts: number; readonly cuts: number },
): Promise<Story> {
  const story = { events: [] as NewEvent[], records: 0, usedNanos: 0n, chargedNanos: 0n };
  const attempts = Array.from({ length: size.attempts }, (_, i) => {
    const customer = customers[i % customers.length];
    if (customer === undefined) throw new Error("no customer");
    const coverMs = i % 3 === 0 ? 90_000 : size.cuts * 60_000;
    const items = [{ sku: "gpu.simulated", quantity: 2 }];
    const wish = aHoldFor(customer, { attempt: anId("att"), coverMs, items });
    return { customer, wish, gpus: [anId("gpu"), anId("gpu")] as GpuId[] };
  });
  const wishes = attempts.map(({ wish }) => wish);
  const outcomes = await createHolds(billing, 1n, wishes);
  expect(outcomes.every((outcome) => outcome.kind === "open")).toBe(true);
  for (let n = 1; n <= size.cuts; n += 1) {
    for (const { customer, wish, gpus } of attempts) {
      const span = {
        seq: n,
        fromMs: (n - 1) * 60_000,
        toMs: n * 60_000 - (n === size.cuts ? 7 : 0),
      };
      const segments = gpus.flatMap(
        (gpu) => aCut(customer, wish.attempt, { gpu, ...span }).segments,
      );
      const owner = { ...customer, attempt: wish.attempt };
      story.events.push(cutEvent({ owner, segments, final: n === size.cuts }));
      story.records += segments.length;
      story.usedNanos += 2n * segmentAmountNanos(hourlyNanos, span.fromMs, span.toMs);
    }
  }
  const total = size.cuts * 60_000 - 7;
  for (const { wish } of attempts) {
    story.chargedNanos += 2n * segmentAmountNanos(hourlyNanos, 0, Math.min(total, wish.coverMs));
  }
  return story;
}

const countUsage = statement<{ n: bigint }>(
  "test_count",
  "SELECT count(*) AS n FROM usage_records",
);

/** The books after a story, whatever happened on the way. */
async function expectTold(billing: TestBilling, story: Story): Promise<void> {
  const figures = await audit(billing.db.core);
  expect(figures).toMatchObject({
    openHolds: 0,
    revenueNanos: story.usedNanos,
    lossNanos: story.usedNanos - story.chargedNanos,
  });
  const [row] = await billing.db.core.query(countUsage);
  expect(row?.n).toBe(BigInt(story.records));
  await using auditor = openAuditor({ url: billing.database.auditorUrl, log: quiet });
  const report = await auditAll(auditor);
  expect(report.checks.filter((check) => !check.ok)).toEqual([]);
  expect(report.checks.filter((check) => !check.skipped).length).toBeGreaterThan(10);
}

/** Waits until billing has applied all that the scheduler has written. */
async function untilApplied(billing: TestBilling, producer: TestProducer): Promise<void> {
  await eventually("billing is up to date", async () => {
    const [row] = await producer.core.query(pendingOutbox);
    const { headSeq } = await readEventHead(producer.core);
    const { lastSeq } = await readPosition(billing.db.core, "scheduler");
    return row?.n === 0n && lastSeq === headSeq;
  });
}
const pendingOutbox = statement<{ n: bigint }>("test_outbox", "SELECT count(*) AS n FROM outbox");

async function appendAll(producer: TestProducer, events: readonly NewEvent[]): Promise<void> {
  for (let i = 0; i < events.length; i += 40) await producer.append(events.slice(i, i + 40));
}

test("usage over NATS is rated once, charged within its hold, and the rest is given back", async () => {
  await using billing = await openTestBilling(10n * usd);
  await using producer = openProducer(billing.database);
  await using bus = await testBus();
  const stop = new AbortController();
  await using relay = startBusRelay({
    ...{ producer: "scheduler", core: producer.core, bus, clock: billing.clock, log: quiet },
    stop: stop.signal,
  });
  await using _consumer = consumeSchedulerEvents({
    ...{ billing, bus, stop: stop.signal, fetch: producer.fetch },
  });
  const customer = await aCustomer(billing);
  const story = await tell(billing, [customer], { attempts: 6, cuts: 5 });
  const ended = newEvent(
    topics.taskStateChanged,
    { task: customer.task, from: TaskState.RUNNING, to: TaskState.SUCCEEDED },
    {
      ...{ aggregate: customer.task, aggregateRevision: 2n, occurredMs: billing.clock.nowMs() },
      ...{ org: customer.org, project: customer.project },
    },
  );
  await appendAll(producer, [...story.events.slice(0, -1), ended]);
  relay.wake();
  await untilApplied(billing, producer);
  const cost = () =>
    transaction(billing.db.core, async (tx) =>
      (await readTaskCosts(tx, customer.project, [customer.task])).get(customer.task),
    );
  expect((await cost())?.final).toBe(false);
  await appendAll(producer, story.events.slice(-1));
  relay.wake();
  await untilApplied(billing, producer);
  expect(await cost()).toEqual({ chargedNanos: story.chargedNanos, final: true });
  await expectTold(billing, story);
  const balance = 10n * usd - story.chargedNanos;
  expect(await money(billing, customer.org)).toEqual({ balance, held: 0n });
});

/** Deliveries dropped, doubled, late and out of order. */
function mischievous(bus: Bus, dice: () => number): Bus {
  return {
    ...bus,
    subscribe: (options) =>
      bus.subscribe({
        ...options,
        receive: async (run: EventRun) => {
          const roll = dice();
          if (roll < 0.3) return;
          if (roll < 0.5) setTimeout(() => void options.receive(run).catch(() => undefined), 30);
          else if (roll < 0.7) await Promise.all([options.receive(run), options.receive(run)]);
          else await options.receive(run);
        },
      }),
  };
}

test("dropped, doubled, late and reordered deliveries leave totals exact, with two replicas at once", async () => {
  await using billing = await openTestBilling(10n * usd);
  await using producer = openProducer(billing.database);
  await using bus = await testBus();
  const stop = new AbortController();
  let seed = 11;
  const dice = (): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const options = {
    ...{ billing, bus: mischievous(bus, dice), stop: stop.signal, fetch: producer.fetch },
    fillEveryMs: 150,
  };
  await using _one = consumeSchedulerEvents(options);
  await using _two = consumeSchedulerEvents(options);
  await using relay = startBusRelay({
    ...{ producer: "scheduler", core: producer.core, bus, clock: billing.clock, log: quiet },
    ...{ stop: stop.signal, batchSize: 17 },
  });
  const customers = [await aCustomer(billing), await aCustomer(billing)];
  const story = await tell(billing, customers, { attempts: 12, cuts: 20 });
  for (let i = 0; i < story.events.length; i += 9) {
    await producer.append(story.events.slice(i, i + 9));
    relay.wake();
  }
  await untilApplied(billing, producer);
  await expectTold(billing, story);
});

test("rating is part of the task's own trace", async () => {
  await using billing = await openTestBilling(usd);
  const memory = new InMemorySpanExporter();
  const tracing = await createTracing({ service: "billing", memory });
  const customer = await aCustomer(billing);
  const cut = aCut(customer, anId("att"), { seq: 1, fromMs: 0, toMs: 60_000, final: true });
  const traceparent = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
  const event = { ...cutEvent(cut), traceparent, seq: 1n };
  await transaction(billing.db.core, (tx) =>
    applySchedulerEvents(tx, { ...billing, tracing }, [event]),
  );
  const [span] = memory.getFinishedSpans();
  expect(span?.spanContext().traceId).toBe("0123456789abcdef0123456789abcdef");
  expect(span?.attributes["fastgpu.attempt"]).toBe(cut.owner.attempt);
  await tracing.shutdown();
});

test("a segment that the scheduler cuts twice is rated once", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const wish = aHoldFor(customer);
  await createHolds(billing, 1n, [wish]);
  const cut = aCut(customer, wish.attempt, { seq: 1, fromMs: 0, toMs: 60_000 });
  const apply = () => transaction(billing.db.core, (tx) => applyUsage(tx, billing, [cut, cut]));
  expect(await apply()).toMatchObject({ records: 1, repeated: 1 });
  expect(await apply()).toMatchObject({ records: 0, repeated: 2 });
  expect(await audit(billing.db.core)).toMatchObject({ revenueNanos: 6_000_000n, lossNanos: 0n });
});

const rowsOf = statement<{ attempt_id: string } & Record<string, unknown>>(
  "test_rows_of",
  "SELECT * FROM usage_records WHERE attempt_id = ANY ($1::uuid[]) ORDER BY attempt_id, seq",
);

test("the quick and the slow way of writing usage leave the same rows", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const cutOf = (attempt: AttemptId) => {
    const first = aCut(customer, attempt, { seq: 1, fromMs: 0, toMs: 60_001, sku: 'a "b" \\ é' });
    const second = aCut(customer, attempt, { seq: 2, fromMs: 60_001, toMs: 2 ** 33 });
    const third = aCut(customer, attempt, { seq: 3, fromMs: 2 ** 33, toMs: 2 ** 33 });
    const lost = third.segments.map((segment) => ({
      ...segment,
      member: 7,
      kind: "fault" as const,
    }));
    return { ...first, segments: [...first.segments, ...second.segments, ...lost] };
  };
  const [quick, slow] = [cutOf(anId("att", 1)), cutOf(anId("att", 2))];
  const apply = (cuts: (typeof quick)[]) =>
    transaction(billing.db.core, (tx) => applyUsage(tx, billing, cuts));
  expect(await apply([quick])).toMatchObject({ records: 3, repeated: 0 });
  expect(await apply([quick, slow])).toMatchObject({ records: 3, repeated: 3 });
  const ids = [quick, slow].map(({ owner }) => idToUuid(owner.attempt));
  const rows = await billing.db.core.query(rowsOf, [ids]);
  const without = rows.map(({ attempt_id: _, ...row }) => row);
  expect(without.slice(0, 3)).toEqual(without.slice(3));
  expect(without[1]).toMatchObject({ start_ms: BigInt(Date.UTC(2026, 0, 1) + 60_001) });
  expect(without[2]).toMatchObject({ member: 7, free_reason: "fault", amount: 0n });
});

test("usage without a hold or price is recorded, never lost and never charged to anybody", async () => {
  await using billing = await openTestBilling(usd);
  const customer = await aCustomer(billing);
  const cuts = [
    aCut(customer, anId("att"), { seq: 1, fromMs: 0, toMs: 60_000, final: true }),
    aCut(customer, anId("att"), { seq: 1, fromMs: 0, toMs: 60_000, sku: 'odd "sku", \\ {}' }),
  ];
  const done = await transaction(billing.db.core, (tx) => applyUsage(tx, billing, cuts));
  expect(done).toMatchObject({ records: 2, unpriced: 1, overrunNanos: 6_000_000n });
  expect(await money(billing, customer.org)).toEqual({ balance: usd, held: 0n });
  await audit(billing.db.core);
});

test("a consumer killed at any point goes on where its last commit was", async () => {
  await using billing = await openTestBilling(10n * usd);
  await using producer = openProducer(billing.database);
  const nats = await testNats();
  await using bus = openNatsBus({ ...nats, name: "scheduler", log: quiet });
  await bus.connected();
  const stop = new AbortController();
  await using relay = startBusRelay({
    ...{ producer: "scheduler", core: producer.core, bus, clock: billing.clock, log: quiet },
    ...{ stop: stop.signal, batchSize: 25 },
  });
  const story = await tell(billing, [await aCustomer(billing)], { attempts: 15, cuts: 30 });
  const parts = 6;
  const share = Math.ceil(story.events.length / parts);
  for (let part = 0; part < parts; part += 1) {
    const child = spawn(
      process.execPath,
      [
        "--disable-warning=ExperimentalWarning",
        fileURLToPath(new URL("./consumer-child.ts", import.meta.url)),
        JSON.stringify({ urls: billing.database.urls }),
        nats.url,
        nats.prefix,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let output = "";
    child.stdout.on("data", (bytes: Buffer) => (output += bytes.toString()));
    await eventually("the consumer has started", () => output.includes("started"));
    await appendAll(producer, story.events.slice(part * share, (part + 1) * share));
    relay.wake();
    await eventually("something was applied", () => output.includes("applied"));
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
    await audit(billing.db.core);
  }
  await using _consumer = consumeSchedulerEvents({
    ...{ billing, bus, stop: stop.signal, fetch: producer.fetch },
  });
  await untilApplied(billing, producer);
  await expectTold(billing, story);
}, 120_000);

test("a nats-server that dies and loses its whole store costs nothing", async () => {
  await using billing = await openTestBilling(10n * usd);
  await using producer = openProducer(billing.database);
  await using server = await privateNatsServer();
  await using bus = openNatsBus({ url: server.url, name: "billing", log: quiet });
  await bus.connected();
  const stop = new AbortController();
  await using relay = startBusRelay({
    ...{ producer: "scheduler", core: producer.core, bus, clock: billing.clock, log: quiet },
    stop: stop.signal,
  });
  await using _consumer = consumeSchedulerEvents({
    ...{ billing, bus, stop: stop.signal, fetch: producer.fetch, fillEveryMs: 500 },
  });
  const story = await tell(billing, [await aCustomer(billing)], { attempts: 4, cuts: 12 });
  const half = story.events.length / 2;
  await appendAll(producer, story.events.slice(0, half));
  relay.wake();
  await untilApplied(billing, producer);
  const before = server.pid;
  await rm(join(server.dataDir, "jetstream"), { recursive: true, force: true });
  process.kill(before, "SIGKILL");
  await appendAll(producer, story.events.slice(half));
  relay.wake();
  await untilApplied(billing, producer);
  await eventually("the server is back", () => server.pid !== before);
  await expectTold(billing, story);
}, 120_000);
