/** What a planner keeps from plan to plan decides nothing: one made anew decides the same. */
import type { GpuId, NodeId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { PolicyName } from "../placement/engine.ts";
import type { Plan, PlanNode, PlanState } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { same } from "../recording/same.ts";
import { World } from "../scene-world.ts";
import { aNode, aQueue, aTask } from "../scene.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "../scheduling-policy.ts";

const minute = 60_000;
const hour = 60 * minute;
const owners = ["a/x", "a/x/eve", "a/y", "b/z"];

const arbitraryNode = fc.record({
  gpus: fc.integer({ min: 0, max: 8 }),
  model: fc.constantFrom("A100", "H100"),
  // Every third GPU is of another model.
  mixed: fc.boolean(),
  rack: fc.constantFrom("r1", "r2"),
  cores: fc.integer({ min: 8, max: 40 }),
  containers: fc.boolean(),
});

const arbitraryWork = fc.record({
  atHours: fc.integer({ min: 0, max: 16 }),
  owner: fc.constantFrom(...owners),
  gpuCount: fc.constantFrom(0, 1, 1, 2, 4),
  gpuModels: fc.constantFrom<string[]>([], [], ["A100"], ["H100", "A100"]),
  cores: fc.integer({ min: 1, max: 4 }),
  replicas: fc.constantFrom(1, 1, 1, 2, 3),
  topology: fc.constantFrom({}, {}, { within: "rack" as const }, { spreadOver: "node" as const }),
  runtime: fc.constantFrom("process" as const, "process" as const, "container" as const),
  preemptible: fc.constantFrom(true, true, false),
  limitHours: fc.integer({ min: 1, max: 20 }),
  elements: fc.constantFrom(0, 0, 0, 5),
  later: fc.boolean(),
  excludes: fc.boolean(),
});

/** What happens to one node between two plans, beside what the plans do. */
const arbitraryEvent = fc.record({
  node: fc.nat({ max: 5 }),
  kind: fc.constantFrom("none", "cordon", "goes", "comes", "saves", "shrinks", "same"),
  hours: fc.constantFrom(0, 0.01, 0.3, 2, 5),
});

const arbitraryHistory = fc.record({
  // Not the default one: its prices are renewed by what has changed since the last time, which belongs to its engine.
  placement: fc.constantFrom<PolicyName>("bestfit", "packing", "spreading"),
  fleet: fc.array(arbitraryNode, { minLength: 2, maxLength: 6, size: "max" }),
  works: fc.array(arbitraryWork, { maxLength: 40, size: "max" }),
  events: fc.array(arbitraryEvent, { minLength: 10, maxLength: 30, size: "max" }),
  limit: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
  reserved: fc.integer({ min: 0, max: 4 }),
  // Who may be stopped at once, for the slightest reason.
  keen: fc.boolean(),
});
type History = typeof arbitraryHistory extends fc.Arbitrary<infer H> ? H : never;

function toNode(
  { gpus, model, mixed, rack, cores, containers }: History["fleet"][number],
  at: number,
) {
  const node = aNode(`n${at}`, gpus, {
    ...{ model, topology: { rack }, cpuMillis: cores * 1_000 },
    runtimes: containers ? ["process", "container"] : ["process"],
  });
  const other = model === "A100" ? "H100" : "A100";
  const list = node.gpus.map((gpu, n) => (mixed && n % 3 === 2 ? { ...gpu, model: other } : gpu));
  return { ...node, gpus: list };
}

function toWork(
  { owner, limitHours, elements, later, excludes, ...of }: History["works"][number],
  at: number,
) {
  const { gpuCount, gpuModels, cores, runtime, topology, preemptible, atHours } = of;
  const array = elements === 0 ? undefined : { pending: elements, leasesLeft: 1 };
  const shape = array === undefined ? { replicas: of.replicas, topology, preemptible } : { array };
  const task = aTask(`t${String(at).padStart(2, "0")}`, {
    ...{ owner, ...shape, maxRuntimeMs: limitHours * hour, submittedMs: atHours * hour },
    demand: { gpuCount, gpuModels, runtime, cpuMillis: cores * 1_000 },
    notBeforeMs: later ? (atHours + 1) * hour : 0,
    excludedGpus: excludes ? ["gpu-n0-0" as GpuId] : [],
  });
  return { task, runMs: (limitHours * hour) / 2 };
}

function policyOf({ placement, keen }: History): SchedulingPolicy {
  const { order } = defaultSchedulingPolicy;
  const soon = { gapMd: 1, minRunMs: minute, allowanceBase: 100, shareWeightMd: 1_000 };
  return { ...defaultSchedulingPolicy, placement, order: keen ? { ...order, ...soon } : order };
}

/** Lets one thing happen to a node of the world. */
function happen(
  world: World,
  { node: at, kind }: History["events"][number],
  first: readonly PlanNode[],
): void {
  const id = `node-n${at}` as NodeId;
  const node = world.nodes.get(id);
  const born = first[at];
  if (kind === "comes" && node === undefined && born !== undefined) world.nodes.set(id, born);
  if (node === undefined) return;
  const busy = node.running.length > 0 || node.gpus.some((gpu) => gpu.reservedFor !== undefined);
  if (kind === "goes" && !busy && at > 0) world.nodes.delete(id);
  if (kind === "same") world.nodes.set(id, { ...node });
  if (kind === "cordon") world.nodes.set(id, { ...node, acceptsWork: !node.acceptsWork });
  if (kind === "shrinks" && !busy) {
    world.nodes.set(id, { ...node, cpuMillis: node.cpuMillis === 2_000 ? 20_000 : 2_000 });
  }
  if (kind === "saves") {
    const saved = { savedMs: world.nowMs };
    world.nodes.set(id, { ...node, running: node.running.map((each) => ({ ...each, ...saved })) });
  }
}

const mixedNode = { gpus: 3, model: "A100", mixed: true, rack: "r1", containers: false } as const;

/** Plays a history; `look` sees each state with its plan. */
function play(history: History, look: (state: PlanState, world: World, plan: Plan) => void): void {
  // The first node has GPUs of both models and stays: an engine numbers models in the order in which it met them.
  const first = [
    toNode({ ...mixedNode, cores: 9 }, 0),
    ...history.fleet.map((of, at) => toNode(of, at + 1)),
  ];
  const world = new World(first, policyOf(history));
  world.queues = [aQueue("b/z", { weight: 3, limitGpus: history.limit })];
  const { project: _, org } = aTask("owner", { owner: "a/x" });
  const span = { startMs: 4 * hour, endMs: 9 * hour };
  world.reservations = [
    { id: "r", org, project: undefined, gpus: history.reserved, models: [], ...span },
  ];
  const works = history.works
    .map(toWork)
    .toSorted((a, b) => a.task.submittedMs - b.task.submittedMs);
  for (const event of history.events) {
    while (works[0] !== undefined && works[0].task.submittedMs <= world.nowMs) {
      world.submit(works.shift()!);
    }
    const state = world.state();
    look(state, world, world.turn());
    happen(world, event, first);
    world.advance(world.nowMs + event.hours * hour);
  }
}

test("over any changes of a fleet the plan is that of a planner made anew, given what was learned", () => {
  const seen = { placements: 0, preemptions: 0, starts: 0 };
  const promise = fc.property(arbitraryHistory, (history) => {
    play(history, (state, world, plan) => {
      const { policy, planner, nowMs } = world;
      const learned = planner.learned();
      const fresh = createPlanner({ policy, rng: () => 0.5, learned }).plan(state, nowMs);
      expect(fresh).toEqual(plan);
      expect(same(fresh, plan)).toBe(true);
      seen.placements += plan.placements.length;
      seen.preemptions += plan.preemptions.length;
      seen.starts += plan.starts.size + plan.expected.size;
    });
  });
  fc.assert(promise, { numRuns: 120 });
  expectSeen(seen.placements, 500, "seen.placements");
  expectSeen(seen.preemptions, 10, "seen.preemptions");
  expectSeen(seen.starts, 40, "seen.starts");
});
