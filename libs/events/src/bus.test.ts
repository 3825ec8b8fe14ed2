import type { EventRun } from "@fastgpu/postgres/outbox";
import { testNats } from "@fastgpu/testkit/bus";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { eventually, namedSignals } from "@fastgpu/testkit/signals";
import { describe, expect, test } from "vitest";
import type { Bus } from "./bus.ts";
import { createMemoryBus } from "./memory-bus.ts";
import { openNatsBus } from "./nats-bus.ts";
import { newEvent, payloadOf, signals, topics } from "./topics.ts";

const org = anId("org");
const project = anId("proj");

/** Events `from` … `to` of a log. */
function run(from: number, to: number): EventRun {
  const events = Array.from({ length: to - from + 1 }, (_, i) => ({
    ...newEvent(
      topics.projectCreated,
      { project, org, displayName: `project ${from + i}` },
      { aggregate: project, aggregateRevision: 1n, occurredMs: 1_234, org },
    ),
    seq: BigInt(from + i),
  }));
  return { incarnation: 1, events };
}

async function connectedPair(): Promise<[Bus, Bus]> {
  const at = await testNats();
  const pair: [Bus, Bus] = [
    openNatsBus({ ...at, name: "one", log: quiet }),
    openNatsBus({ ...at, name: "two", log: quiet }),
  ];
  await Promise.all(pair.map((bus) => bus.connected()));
  return pair;
}

const buses: readonly [string, () => Promise<[Bus, Bus]>][] = [
  [
    "memory",
    () => {
      const bus = createMemoryBus({ retryMs: 1 });
      return Promise.resolve([bus, bus]);
    },
  ],
  ["NATS", connectedPair],
];

describe.each(buses)("conformance: %s", (_name, open) => {
  test("events arrive as they were published, in order", async () => {
    const [producer, consumer] = await open();
    await using _a = producer;
    await using _b = consumer;
    const set = namedSignals();
    const seen: EventRun[] = [];
    await using _subscription = consumer.subscribe({
      producer: "auth",
      consumer: "billing",
      onGap: () => set.fire("up"),
      receive: async (received) => {
        seen.push(received);
        set.fire("received");
      },
    });
    await set.fired("up");
    const sent = [run(1, 3), run(4, 4), run(5, 9)];
    for (const each of sent) await producer.publish("auth", each);
    await producer.publish("scheduler", run(1, 1));
    await set.fired("received", 3);
    expect(seen.flatMap((each) => each.events.map((event) => Number(event.seq)))).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    const first = seen[0]!.events[0]!;
    expect(payloadOf(topics.projectCreated, first).displayName).toBe("project 1");
    expect(first).toMatchObject({
      org,
      project: undefined,
      occurredMs: 1_234,
      eventId: sent[0]!.events[0]!.eventId,
    });
    expect(() => payloadOf(topics.usageCut, first)).toThrow(/is no/);
  });

  test("a refused delivery comes again", async () => {
    const [producer, consumer] = await open();
    await using _a = producer;
    await using _b = consumer;
    const set = namedSignals();
    await using _subscription = consumer.subscribe({
      producer: "auth",
      consumer: "billing",
      onGap: () => set.fire("up"),
      receive: async () => {
        set.fire("received");
        if (set.count("received") < 3) throw new Error("not now");
        set.fire("taken");
      },
    });
    await set.fired("up");
    await producer.publish("auth", run(1, 1));
    await set.fired("taken");
    expect(set.count("received")).toBe(3);
  });

  test("every consuming service gets every event; replicas of one share them", async () => {
    const [one, two] = await open();
    await using _a = one;
    await using _b = two;
    const set = namedSignals();
    const listen = (bus: Bus, consumer: string) =>
      bus.subscribe({
        producer: "auth",
        consumer,
        onGap: () => set.fire("up"),
        receive: async (received) => received.events.forEach(() => set.fire(consumer)),
      });
    await using _billing1 = listen(one, "billing");
    await using _billing2 = listen(two, "billing");
    await using _monitor = listen(two, "monitor");
    await set.fired("up", 3);
    for (let i = 1; i <= 20; i += 1) await one.publish("auth", run(i, i));
    await Promise.all([set.fired("billing", 20), set.fired("monitor", 20)]);
    expect([set.count("billing"), set.count("monitor")]).toEqual([20, 20]);
  });

  test("signals reach those who listen for the key, or for any", async () => {
    const [one, two] = await open();
    await using _a = one;
    await using _b = two;
    const set = namedSignals();
    await using _mine = two.listen(signals.replicaNudge, "replica-1", () => set.fire("mine"));
    await using _other = two.listen(signals.replicaNudge, "replica-2", () => set.fire("other"));
    await using _all = two.listen(signals.nodeSample, "*", (sample, key) =>
      set.fire(`${key} ${sample.cpuPercent}`),
    );
    // A signal may be lost, also one sent before the listener stands: send until it is heard.
    await eventually("heard", async () => {
      one.send(signals.replicaNudge, "replica-1", {});
      one.send(signals.nodeSample, "node-7", { node: "node-7", cpuPercent: 12.5 });
      await new Promise((resolve) => setTimeout(resolve, 5));
      return set.count("mine") > 0 && set.count("node-7 12.5") > 0;
    });
    expect(set.count("other")).toBe(0);
    expect(() => one.send(signals.replicaNudge, "a.b", {})).toThrow(RangeError);
  });
});
