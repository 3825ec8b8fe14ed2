import type { AttemptId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { expect, test } from "vitest";
import { withLease } from "../explain/lease.ts";
import type { PlanNode, Topology } from "../plan.ts";
import { World } from "../scene-world.ts";
import { aNode, aQueue, aTask, gpuId } from "../scene.ts";

const hour = 3_600_000;

const topologies: Topology[] = [
  {},
  { within: "rack" },
  { within: "node" },
  { spreadOver: "node" },
  { spreadOver: "rack" },
];
const arbitrary = fc.record({
  nodes: fc.array(
    fc.record({
      gpus: fc.integer({ min: 1, max: 4 }),
      rack: fc.constantFrom("r1", "r2"),
      idle: fc.nat(2),
      cores: fc.integer({ min: 3, max: 10 }),
      /** What runs there holds two GPUs each. */
      wide: fc.boolean(),
    }),
    { minLength: 3, maxLength: 6 },
  ),
  /** Entitled to their places: they stop whoever is there in one plan. */
  gangs: fc.array(
    fc.record({
      replicas: fc.integer({ min: 1, max: 4 }),
      gpuCount: fc.integer({ min: 1, max: 3 }),
      topology: fc.constantFrom(...topologies),
      owner: fc.constantFrom("a/x", "b/y", "c/z"),
    }),
    { minLength: 2, maxLength: 4 },
  ),
  /** Who comes meanwhile, with an earlier submit and a higher priority. */
  strangers: fc.array(
    fc.record({
      replicas: fc.constantFrom(1, 1, 2),
      gpuCount: fc.integer({ min: 1, max: 2 }),
      owner: fc.constantFrom("a/x", "b/y", "d/w"),
      preemptible: fc.boolean(),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  /** Seconds after which the victims have stopped, in turn. */
  stops: fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 6, maxLength: 6 }),
});
type Scene = typeof arbitrary extends fc.Arbitrary<infer S> ? S : never;

/** A fleet on which what can be stopped runs on all GPUs but a few. */
function borrowed(nodes: Scene["nodes"]): World {
  const world = new World([]);
  world.nowMs = hour;
  for (const [n, { gpus, rack, idle, cores, wide }] of nodes.entries()) {
    let node: PlanNode = aNode(`n${n}`, gpus, { topology: { rack }, cpuMillis: cores * 1000 });
    for (let at = 0; at < gpus - idle; at += wide ? 2 : 1) {
      const held = wide && at + 1 < gpus - idle ? [at, at + 1] : [at];
      const demand = { gpuCount: held.length };
      const task = aTask(`v${n}-${at}`, { owner: "v/v", preemptible: true, demand });
      const attempt = `att-v${n}-${at}` as AttemptId;
      const ids = held.map((each) => gpuId(node.name, each));
      node = withLease(node, task, { gpus: ids, nowMs: 0, attempt });
      const [startMs, endMs] = [0, 50 * hour];
      const running = { nodes: [node.id], startMs, endMs, stopping: false };
      world.running.set(attempt, { work: { task, runMs: endMs }, ...running });
    }
    world.nodes.set(node.id, node);
  }
  return world;
}

/** Found with GPUs beside the victims' kept by trial alone: one of them waited for good. */
const found: Scene = {
  nodes: [
    { gpus: 2, rack: "r1", idle: 2, cores: 3, wide: true },
    { gpus: 3, rack: "r2", idle: 1, cores: 9, wide: false },
    { gpus: 3, rack: "r1", idle: 0, cores: 6, wide: true },
  ],
  gangs: [
    { replicas: 1, gpuCount: 3, topology: { within: "rack" }, owner: "c/z" },
    { replicas: 3, gpuCount: 1, topology: {}, owner: "c/z" },
    { replicas: 2, gpuCount: 2, topology: { within: "node" }, owner: "a/x" },
    { replicas: 3, gpuCount: 3, topology: { within: "rack" }, owner: "c/z" },
  ],
  strangers: [{ gpuCount: 1, owner: "a/x", preemptible: true, replicas: 2 }],
  stops: [1, 4, 3, 4, 1, 5],
};

test("several that preempted together all start, whoever comes until their victims have stopped, one after the other", () => {
  let several = 0;
  fc.assert(
    fc.property(arbitrary, ({ nodes, gangs, strangers, stops }) => {
      const world = borrowed(nodes);
      world.queues = ["a", "b", "c"].map((owner) => aQueue(owner, { guaranteedGpus: 8 }));
      for (const [n, { owner, replicas, topology, gpuCount }] of gangs.entries()) {
        const of = { owner, replicas, topology, demand: { gpuCount }, submittedMs: n };
        world.submit({ task: aTask(`g${n}`, of), runMs: 40 * hour });
      }
      const preemptors = new Set(world.turn().preemptions.map((each) => each.reservedFor));
      if (preemptors.size > 1) several++;
      let stopped = 0;
      for (const running of world.running.values()) {
        if (running.stopping) running.endMs = world.nowMs + 1000 * stops[stopped++ % 6]!;
      }
      for (const [n, { gpuCount, ...of }] of strangers.entries()) {
        const task = { ...of, demand: { gpuCount }, submittedMs: n - 1000, priority: 10 };
        world.submit({ task: aTask(`s${n}`, task), runMs: 40 * hour });
      }
      for (let second = 1; second <= 6; second++) {
        world.turn();
        world.advance(hour + second * 1000);
      }
      world.turn();
      for (const id of preemptors) expect(world.started.has(id)).toBe(true);
    }),
    { numRuns: 300, examples: [[found]] },
  );
  expectSeen(several, 30, "several");
});
