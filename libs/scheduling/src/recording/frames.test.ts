import type { AttemptId, GpuId, NodeId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { newId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { expect, test } from "vitest";
import { plainTask, type Plan, type PlanNode, type PlanState, type PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { World } from "../scene-world.ts";
import { aNode, aTask, lease } from "../scene.ts";
import { defaultOrderPolicy, untimedOrder } from "../order/policy.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "../scheduling-policy.ts";
import { FrameReader, FrameWriter } from "./frames.ts";
import { differences, planned } from "./planned.ts";

const random = (seed: number): Uint8Array =>
  Uint8Array.from({ length: 10 }, (_, at) => (seed * 31 + at * 17) % 256);
const nowOf = (at: number): number => 1_790_000_000_000 + at * 137;

function task(seed: number, over: Partial<PlanTask> = {}): PlanTask {
  return {
    ...plainTask,
    id: newId("task", nowOf(seed), random(seed)),
    org: newId("org", 1, random(seed % 3)) as OrgId,
    project: newId("proj", 1, random(seed % 5)) as ProjectId,
    epoch: seed % 4,
    priority: 0,
    submittedMs: nowOf(seed),
    notBeforeMs: 0,
    demand: {
      runtime: "process",
      gpuCount: seed % 3,
      gpuModels: seed % 2 === 0 ? [] : ["A100"],
      gpuMinMemoryMib: 0,
      simulatedOk: true,
      cpuMillis: 100 * (1 + (seed % 4)),
      memoryMib: 64,
      diskMib: 0,
    },
    stopGraceMs: 10_000,
    excludedGpus: [],
    array: seed % 7 === 0 ? { pending: seed, leasesLeft: 2 } : undefined,
    ...over,
  };
}

function node(seed: number, busy: number): PlanNode {
  const id = newId("node", 1, random(seed)) as NodeId;
  const gpus = Array.from({ length: 4 }, (_, at) => ({
    id: newId("gpu", at, random(seed)) as GpuId,
    model: seed % 2 === 0 ? "A100" : "H100",
    memoryMib: 80_000,
    simulated: true,
    free: at >= busy,
    reservedFor: undefined,
  }));
  return {
    id,
    name: `node-${seed}`,
    acceptsWork: true,
    runtimes: ["process"],
    cpuMillis: 8_000,
    memoryMib: 65_536,
    diskMib: 100_000,
    gpus,
    topology: { rack: `r-${seed % 2}` },
    running: gpus
      .slice(0, busy)
      .map((gpu) =>
        lease({ attempt: newId("att", busy, random(seed)) as AttemptId, gpus: [gpu.id] }),
      ),
  };
}

/** One step of a history: what happens to the lists between two cycles. */
const stepArbitrary = fc.record({
  arrive: fc.nat({ max: 3 }),
  leave: fc.array(fc.nat({ max: 20 }), { maxLength: 3 }),
  touch: fc.array(fc.nat({ max: 20 }), { maxLength: 2 }),
  toEnd: fc.array(fc.nat({ max: 20 }), { maxLength: 1 }),
  nodes: fc.array(fc.tuple(fc.nat({ max: 4 }), fc.nat({ max: 4 })), { maxLength: 2 }),
  usage: fc.option(fc.double({ min: 0, max: 1e12, noNaN: true })),
  reserve: fc.option(
    fc.record({ gpus: fc.integer({ min: 1, max: 4 }), from: fc.nat({ max: 12 }) }),
  ),
});

type Step = typeof stepArbitrary extends fc.Arbitrary<infer T> ? T : never;

/** The states of a history. An unchanged thing is the same object; a touched one a new object that says the same. */
function historyOf(steps: readonly Step[]): PlanState[] {
  let tasks: PlanTask[] = [];
  const nodes = new Map<string, PlanNode>();
  let usage: PlanState["usage"] = [];
  let reservations: PlanState["reservations"] = [];
  let seed = 0;
  return steps.map((step) => {
    tasks = tasks.filter((_, at) => !step.leave.includes(at));
    tasks = tasks.map((each, at) => (step.touch.includes(at) ? { ...each } : each));
    for (const at of step.toEnd) {
      const moved = tasks[at];
      if (moved !== undefined) tasks = [...tasks.filter((each) => each !== moved), moved];
    }
    for (let count = 0; count < step.arrive; count += 1) tasks = [...tasks, task(seed++)];
    for (const [at, busy] of step.nodes) nodes.set(`${at}`, node(at, busy));
    if (step.usage !== null) {
      const { org, project } = task(1);
      usage = [...usage.slice(-3), { org, project, user: "u", gpuMs: step.usage }];
    }
    if (step.reserve !== null) {
      const { gpus, from } = step.reserve;
      const id = newId("resv", seed, random(seed));
      const { org } = task(0);
      const times = { startMs: nowOf(from), endMs: nowOf(from + 3) };
      const made = { id, org, project: undefined, gpus, models: [], ...times };
      reservations = [...reservations.slice(-2), made];
    }
    return { nodes: [...nodes.values()], tasks, queues: [], usage, reservations };
  });
}

/** Which objects of a state were already in the one before. */
const kept = (before: PlanState | undefined, state: PlanState): readonly (readonly number[])[] => [
  state.nodes.map((each) => before?.nodes.indexOf(each) ?? -1),
  state.tasks.map((each) => before?.tasks.indexOf(each) ?? -1),
  [before?.usage === state.usage ? 1 : 0],
];

test("every state of a history comes back, with new objects exactly where there were new objects", () => {
  fc.assert(
    fc.property(fc.array(stepArbitrary, { minLength: 1, maxLength: 12 }), (steps) => {
      const writer = new FrameWriter();
      const reader = new FrameReader();
      let before: { given: PlanState; read: PlanState } | undefined;
      for (const [at, given] of historyOf(steps).entries()) {
        const frame = reader.read(writer.cycle(given, nowOf(at), undefined));
        if (frame.kind !== "change") throw new Error(frame.kind);
        expect(frame.nowMs).toBe(nowOf(at));
        expect(frame.state).toStrictEqual(given);
        expect(kept(before?.read, frame.state)).toEqual(kept(before?.given, given));
        before = { given, read: frame.state };
      }
    }),
    { numRuns: 150 },
  );
});

test("a planner that is given the read states decides the same, whatever the history", () => {
  fc.assert(
    fc.property(fc.array(stepArbitrary, { minLength: 1, maxLength: 12 }), (steps) => {
      const rng = () => 0.25;
      const [live, replayed] = [0, 1].map(() =>
        createPlanner({ policy: defaultSchedulingPolicy, rng }),
      );
      const writer = new FrameWriter();
      const reader = new FrameReader();
      for (const [at, given] of historyOf(steps).entries()) {
        const plan = live?.plan(given, nowOf(at)) as Plan;
        const frame = reader.read(writer.cycle(given, nowOf(at), plan));
        if (frame.kind !== "cycle") throw new Error(frame.kind);
        const again = planned(replayed?.plan(frame.state, frame.nowMs) as Plan);
        expect(differences(frame.planned, again)).toEqual([]);
      }
    }),
    { numRuns: 100 },
  );
});

test("another decision is told, part by part", () => {
  const tooLarge = task(5, { demand: { ...task(5).demand, gpuCount: 9 } });
  const state: PlanState = {
    ...{ nodes: [node(2, 0)], queues: [], usage: [], reservations: [] },
    tasks: [task(1), tooLarge],
  };
  const planner = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0 });
  const plan = planned(planner.plan(state, nowOf(9)));
  expect(plan.placements).toHaveLength(1);
  expect(differences(plan, { ...plan, placements: [] }).map(({ part }) => part)).toEqual([
    "placements",
  ]);
  const later = planner.plan({ ...state, tasks: [tooLarge] }, nowOf(9));
  const worded = new Map(
    [...later.reasons].map(([id, reason]) => [id, { ...reason, message: "other words" }]),
  );
  expect(worded.size).toBe(1);
  const parts = differences(planned(later), planned({ ...later, reasons: worded }));
  expect(parts.map(({ part }) => part)).toEqual(["reasons"]);
});

test("a policy is read back as it was", () => {
  const frame = new FrameReader().read(new FrameWriter().policy(defaultSchedulingPolicy));
  expect(frame).toStrictEqual({ kind: "policy", policy: defaultSchedulingPolicy });
});

test("a policy from before a parameter was is read with the value that changes nothing", () => {
  const { lateMd: _, dueAfterMs: __, ...order } = defaultOrderPolicy;
  const { compaction: ___, ...others } = defaultSchedulingPolicy;
  const old = { ...others, order } as SchedulingPolicy;
  const writer = new FrameWriter();
  const reader = new FrameReader();
  const expected = { ...defaultOrderPolicy, lateMd: 0, dueAfterMs: untimedOrder.dueAfterMs };
  const begun = reader.read(writer.beginning({ policy: old, seed: 1, learned: undefined }));
  expect(begun.kind === "beginning" && begun.beginning.policy.order).toStrictEqual(expected);
  expect(begun.kind === "beginning" && begun.beginning.policy.compaction.enabled).toBe(false);
  const changed = reader.read(writer.policy(old));
  expect(changed.kind === "policy" && changed.policy.order).toStrictEqual(expected);
});

test("no trace context and no more than a few bytes for a cycle in which little changes", () => {
  const writer = new FrameWriter();
  const nodes = Array.from({ length: 50 }, (_, at) => node(at, at % 4));
  const tasks = Array.from({ length: 500 }, (_, at) => task(at));
  const base = { nodes, tasks, queues: [], usage: [], reservations: [] };
  writer.cycle(base, nowOf(0), undefined);
  const taken = nodes.with(7, { ...node(7, 3), running: [] });
  const next = { ...base, nodes: taken, tasks: [...tasks.slice(3), task(501)] };
  const bytes = writer.cycle(next, nowOf(1), undefined);
  expect(bytes.length).toBeLessThan(100);
  expect(new TextDecoder().decode(bytes)).not.toContain("abab");
});

test("parts of GPUs are read back as they were, and planned the same", () => {
  const nodes = [
    aNode("a", 1, { mode: { isolation: "timeslice" } }),
    aNode("b", 1, { mode: { isolation: "mig", geometry: "h100-80" } }),
  ];
  const world = new World(nodes);
  const part = { kind: "share", milli: 400, weakest: "mps" } as const;
  const mig = { kind: "mig", profile: "h100-80/3g.40gb" } as const;
  const demands = [{ part: { ...part, weakest: "timeslice" as const } }, { part: mig }, { part }];
  for (const [at, demand] of demands.entries()) {
    world.submit({ task: aTask(`t${at}`, { demand }), runMs: 60_000 });
  }
  const writer = new FrameWriter();
  const reader = new FrameReader();
  for (let turn = 0; turn < 3; turn++) {
    const state = structuredClone(world.state());
    const plan = world.turn();
    const frame = reader.read(writer.cycle(state, world.nowMs, plan));
    if (frame.kind !== "cycle") throw new Error(frame.kind);
    expect(frame.state).toEqual(state);
    const again = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
    expect(differences(frame.planned, planned(again.plan(frame.state, frame.nowMs)))).toEqual([]);
    world.advance(world.nowMs + 1_000);
  }
  const held = [...world.nodes.values()].flatMap(({ running }) => running.map((each) => each.part));
  expect(held).toEqual([
    { kind: "share", milli: 400, memoryMib: 0, grade: "timeslice" },
    { ...mig, starts: [4], grade: "mig" },
  ]);
});
