import type { AttemptId, TaskId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { neverMs } from "../order/policy.ts";
import type { Plan, PlanLease, PlanNode, PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { World } from "../scene-world.ts";
import { aNode, aState, aTask, gpuId, lease } from "../scene.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "../scheduling-policy.ts";

const hourMs = 3_600_000;

/** Nobody is stopped for the sake of the order, which does not change with time: whoever stops, moves. */
const movesOnly: SchedulingPolicy = {
  ...defaultSchedulingPolicy,
  order: {
    ...defaultSchedulingPolicy.order,
    ...{ gapMd: 20_000, historyBoundMd: 0, lateAfterMs: neverMs, agedAfterMs: neverMs },
    ...{ shareWeightMd: 0, shareSteepMd: 0 },
  },
  usage: { ...defaultSchedulingPolicy.usage, weightMd: 0 },
  // Nobody saves in these scenes.
  compaction: { enabled: true, maxLossMs: 24 * hourMs },
};
const off: SchedulingPolicy = {
  ...movesOnly,
  compaction: { ...movesOnly.compaction, enabled: false },
};

/** A task that can be stopped, has run for an hour and has just saved, on these GPUs of a node. */
const small = (id: string, node: string, at: readonly number[], of: Partial<PlanLease> = {}) =>
  lease({
    attempt: `att-${id}` as AttemptId,
    task: `task-${id}` as TaskId,
    gpus: at.map((each) => gpuId(node, each)),
    preemptible: true,
    savedMs: hourMs - 1_000,
    ...of,
  });

function node(
  name: string,
  running: readonly PlanLease[],
  of: Parameters<typeof aNode>[2] & { reserved?: boolean } = {},
): PlanNode {
  const { reserved = false, ...over } = of;
  const plain = aNode(name, 4, over);
  const held = new Set(running.flatMap((each) => each.gpus));
  const own = plain.gpus.map((gpu) => ({
    ...gpu,
    free: !held.has(gpu.id),
    reservedFor: reserved && !held.has(gpu.id) ? ("task-somebody" as TaskId) : undefined,
  }));
  return { ...plain, gpus: own, running };
}

const head = (of: Parameters<typeof aTask>[1] = {}): PlanTask =>
  aTask("head", { ...of, demand: { gpuCount: 4, ...of.demand } });

function planOf(
  nodes: readonly PlanNode[],
  tasks: readonly PlanTask[] = [head()],
  policy = movesOnly,
): Plan {
  const planner = createPlanner({ policy, rng: () => 0.5 });
  return planner.plan(aState({ nodes, tasks }), hourMs);
}

const movesOf = (...of: Parameters<typeof planOf>) =>
  planOf(...of).preemptions.flatMap(({ victimTask, movesTo }) =>
    movesTo === undefined ? [] : [[victimTask, movesTo.node]],
  );

describe("a move", () => {
  const a = (of: Partial<PlanLease> = {}) => node("a", [small("1", "a", [0], of)]);
  const b = (of: Partial<PlanLease> = {}) => node("b", [small("2", "b", [0, 1], of)]);

  test("lets in a task that finds no node with enough free GPUs, and keeps both places", () => {
    const { preemptions, placements } = planOf([a(), b()]);
    expect(placements).toEqual([]);
    expect(preemptions).toMatchObject([
      {
        victim: "att-1",
        reservedFor: "task-head",
        gpus: [gpuId("a", 0)],
        beside: [{ node: "node-a", gpus: [1, 2, 3].map((at) => gpuId("a", at)) }],
        movesTo: { node: "node-b", gpus: [gpuId("b", 2)] },
        message: expect.stringContaining("moved to make room"),
      },
    ]);
  });

  test("is of those who lose least", () => {
    const lost = { savedMs: hourMs - 600_000 };
    expect(movesOf([a(lost), b()])).toEqual([["task-2", "node-a"]]);
  });

  test("frees several nodes for a gang, as far as there is room for all who move", () => {
    const gang = head({ replicas: 2, submittedMs: hourMs });
    const c = node("c", [small("3", "c", [0])]);
    const d = node("d", [small("4", "d", [0])]);
    const moves = movesOf([a(), b(), c, d], [gang]);
    expect(moves).toHaveLength(2);
    expect(new Set(moves.map(([, to]) => to)).size).toBeLessThanOrEqual(2);
    expect(movesOf([a(), b(), node("c", [small("3", "c", [0, 1])])], [gang])).toEqual([]);
  });

  test.each<[string, readonly PlanNode[], PlanTask?, SchedulingPolicy?]>([
    ["what cannot resume", [a({ preemptible: false }), b({ preemptible: false })]],
    ["what has just started", [a, b].map((each) => each({ heldSinceMs: hourMs - 60_000 }))],
    ["what was stopped often for its run time", [a, b].map((each) => each({ preemptions: 5 }))],
    [
      "what would lose too much",
      [a, b].map((each) => each({ savedMs: undefined })),
      head(),
      { ...movesOnly, compaction: { enabled: true, maxLossMs: 600_000 } },
    ],
    [
      "anybody onto GPUs of another model",
      [a(), node("b", [small("2", "b", [0, 1])], { model: "X" })],
      head({ demand: { gpuCount: 4, gpuModels: ["A100"] } }),
    ],
    [
      "anybody onto GPUs that are kept for others",
      [a(), node("b", b().running, { reserved: true })],
    ],
    [
      "anybody onto a node that takes no work",
      [a(), node("b", b().running, { acceptsWork: false })],
    ],
    [
      "anybody onto a node without the cores",
      [
        a({ cpuMillis: 3_000 }),
        node("b", [small("2", "b", [0, 1], { cpuMillis: 900_000 })], { cpuMillis: 902_000 }),
      ],
      head({ demand: { gpuCount: 4, cpuMillis: 999_000 } }),
    ],
    ["anybody where the policy is against it", [a(), b()], head(), off],
  ])("never disturbs %s", (_, nodes, task = head(), policy = movesOnly) => {
    expect(planOf(nodes, [task], policy).preemptions).toEqual([]);
  });

  test("lets in a task that lacks nothing but the cores of who moves, on GPUs that are idle", () => {
    const c = node("a", [small("1", "a", [3], { cpuMillis: 900_000 })]);
    const d = node("b", [lease({ gpus: [0, 1, 2].map((at) => gpuId("b", at)) })]);
    const wants = head({ demand: { gpuCount: 3, cpuMillis: 500_000 } });
    expect(planOf([c, d], [wants]).preemptions).toMatchObject([
      {
        victim: "att-1",
        gpus: [],
        beside: [{ node: "node-a", gpus: [0, 1, 2].map((at) => gpuId("a", at)) }],
        movesTo: { node: "node-b", gpus: [gpuId("b", 3)] },
      },
    ]);
  });

  test("does not happen where the task fits as it is", () => {
    expect(movesOf([a(), b(), node("c", [])])).toEqual([]);
  });
});

const works = fc.array(
  fc.record({
    gpuCount: fc.constantFrom(1, 1, 1, 2, 3, 4, 4),
    replicas: fc.constantFrom(1, 1, 1, 1, 2),
    preemptible: fc.constantFrom(true, true, true, false),
    owner: fc.constantFrom("a/x", "b/y"),
    cpuMillis: fc.constantFrom(1_000, 1_000, 4_000),
    tenths: fc.integer({ min: 1, max: 10 }),
    hours: fc.integer({ min: 1, max: 10 }),
    afterMinutes: fc.integer({ min: 0, max: 300 }),
  }),
  { minLength: 6, maxLength: 30, size: "max" },
);
const scenes = fc.record({ nodes: fc.integer({ min: 2, max: 5 }), works });
type Scene = typeof scenes extends fc.Arbitrary<infer S> ? S : never;

/** Plays a scene to its end; tasks come in their order, and are told of each plan. */
function play(
  { nodes, works: all }: Scene,
  of: { policy: SchedulingPolicy; owner?: string; check?: (world: World, plan: Plan) => void },
): World {
  const fleet = Array.from({ length: nodes }, (_, at) => aNode(`n${at}`, 4, { cpuMillis: 12_000 }));
  const world = new World(fleet, of.policy);
  const comes = all
    .map(({ gpuCount, replicas, cpuMillis, tenths, hours, afterMinutes, ...rest }, at) => {
      const atMs = afterMinutes * 60_000;
      const maxRuntimeMs = hours * hourMs;
      const task = aTask(`${at}`, {
        ...{ ...rest, replicas: Math.min(replicas, nodes), maxRuntimeMs, submittedMs: atMs },
        owner: of.owner ?? rest.owner,
        demand: { gpuCount, cpuMillis },
      });
      return { atMs, work: { task, runMs: (maxRuntimeMs * tenths) / 10 } };
    })
    .toSorted((one, other) => one.atMs - other.atMs);
  for (let turn = 0; turn < 400; turn++) {
    while (comes[0] !== undefined && comes[0].atMs <= world.nowMs)
      world.submit(comes.shift()!.work);
    const plan = world.turn();
    of.check?.(world, plan);
    const next = Math.min(comes[0]?.atMs ?? Infinity, world.nextMs());
    if (next === Infinity) break;
    world.advance(Math.max(world.nowMs, Math.min(next, world.nowMs + 600_000)));
  }
  return world;
}

// The world throws where a GPU is given out twice, a node has not so much, or something stops that cannot resume.
describe("moves in any scene", () => {
  test("the task for which others move starts, and each of those goes on where it was to", () => {
    let moved = 0;
    const check = (world: World, { preemptions }: Plan): void => {
      const moves = preemptions.filter(({ movesTo }) => movesTo !== undefined);
      if (moves.length === 0) return;
      const then = world.copy();
      then.advance(then.nowMs + 5_000);
      then.turn();
      for (const { victimTask, reservedFor, movesTo } of moves) {
        moved++;
        expect(then.started.has(reservedFor)).toBe(true);
        const again = [...then.running.values()].find(({ work }) => work.task.id === victimTask);
        expect(again?.nodes).toEqual([movesTo!.node]);
        const held = then.nodes.get(movesTo!.node)!.running.filter((of) => of.task === victimTask);
        expect(held.map(({ gpus }) => gpus)).toEqual([movesTo!.gpus]);
      }
    };
    const property = fc.property(scenes, fc.boolean(), (scene, only) => {
      play(scene, { policy: only ? movesOnly : defaultSchedulingPolicy, check });
    });
    fc.assert(property, { numRuns: 60 });
    expectSeen(moved, 30, "moved");
  });

  test("nobody moves in circles: not before its least run time, nor more often than that allows", () => {
    const { order } = movesOnly;
    let moved = 0;
    const property = fc.property(scenes, (scene) => {
      const world = play(scene, { policy: movesOnly });
      moved += world.moved.length;
      expect(world.moved).toHaveLength(world.preempted.length);
      for (const [task, list] of Map.groupBy(world.moved, (each) => each.task)) {
        expect(new Set(list.map((each) => each.for)).size).toBe(list.length);
        const most = 1 + order.allowanceBase + world.ranMs(task) / order.allowancePerMs;
        expect(list.length).toBeLessThanOrEqual(most);
        for (const [at, { atMs }] of list.entries()) {
          const before = list[at - 1]?.atMs ?? -Infinity;
          expect(atMs - before).toBeGreaterThanOrEqual(order.minRunMs);
        }
      }
    });
    fc.assert(property, { numRuns: 60 });
    expectSeen(moved, 15, "moved");
  });

  test("no move delays a start that was promised, but by the seconds that those who move take to stop", () => {
    let [moved, promised] = [0, 0];
    const property = fc.property(scenes, (scene) => {
      const told = new Map<TaskId, number>();
      // One queue, all there from the beginning: nobody who comes later goes before.
      const all = scene.works.map((work) => ({ ...work, afterMinutes: 0 }));
      const check = (_: World, plan: Plan): void => {
        for (const [task, atMs] of plan.starts) if (!told.has(task)) told.set(task, atMs);
      };
      const world = play({ ...scene, works: all }, { policy: movesOnly, owner: "a/x", check });
      moved += world.moved.length;
      for (const [task, atMs] of told) {
        promised++;
        expect(world.started.get(task)).toBeLessThanOrEqual(atMs + 5_000 * world.moved.length);
      }
    });
    fc.assert(property, { numRuns: 60 });
    expectSeen(moved, 5, "moved");
    expectSeen(promised, 30, "promised");
  });
});
