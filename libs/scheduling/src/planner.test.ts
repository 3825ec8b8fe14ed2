import type { GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { expect, test } from "vitest";
import { plainTask, type Demand, type PlanNode, type PlanState, type PlanTask } from "./plan.ts";
import { createPlanner } from "./planner.ts";
import { lease } from "./scene.ts";
import { defaultSchedulingPolicy } from "./scheduling-policy.ts";

const demand: Demand = {
  runtime: "process",
  gpuCount: 0,
  gpuModels: [],
  gpuMinMemoryMib: 0,
  simulatedOk: true,
  cpuMillis: 1_000,
  memoryMib: 1_024,
  diskMib: 0,
};

interface NodeOf {
  readonly id: string;
  readonly gpus?: readonly string[];
  readonly busy?: readonly number[];
  readonly simulated?: boolean;
  readonly cpuMillis?: number;
  readonly runtimes?: readonly string[];
  readonly acceptsWork?: boolean;
}

const gpuId = (node: string, at: number): GpuId => `gpu-${node}-${at}` as GpuId;

function node(of: NodeOf): PlanNode {
  const busy = of.busy ?? [];
  return {
    id: `node-${of.id}` as NodeId,
    name: of.id,
    acceptsWork: of.acceptsWork ?? true,
    runtimes: of.runtimes ?? ["process", "container"],
    cpuMillis: of.cpuMillis ?? 8_000,
    memoryMib: 65_536,
    diskMib: 100_000,
    gpus: (of.gpus ?? []).map((model, at) => ({
      id: gpuId(of.id, at),
      model,
      memoryMib: 80_000,
      simulated: of.simulated ?? false,
      free: !busy.includes(at),
      reservedFor: undefined,
    })),
    topology: {},
    running: busy.map((at) => lease({ gpus: [gpuId(of.id, at)] })),
  };
}

function task(id: string, over: Partial<PlanTask> & { demand?: Demand } = {}): PlanTask {
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: "org-a" as OrgId,
    project: "proj-a" as ProjectId,
    epoch: 0,
    priority: 0,
    submittedMs: 0,
    notBeforeMs: 0,
    demand,
    stopGraceMs: 0,
    excludedGpus: [],
    array: undefined,
    ...over,
  };
}

const planner = () => createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
const state = (of: Pick<PlanState, "nodes" | "tasks">): PlanState => ({
  queues: [],
  usage: [],
  reservations: [],
  ...of,
});
const gpus = (count: number, more: Partial<Demand> = {}): Demand => ({
  ...demand,
  gpuCount: count,
  ...more,
});

test.each([
  ["no worker", [], task("a"), "NO_CAPACITY", "no worker has joined yet"],
  [
    "no such model",
    [node({ id: "a", gpus: ["A100"] })],
    task("a", { demand: gpus(1, { gpuModels: ["H200"] }) }),
    "UNSATISFIABLE",
    "model",
  ],
  [
    "only simulated GPUs",
    [node({ id: "a", gpus: ["S"], simulated: true })],
    task("a", { demand: gpus(1, { simulatedOk: false }) }),
    "UNSATISFIABLE",
    "simulated",
  ],
  [
    "all GPUs busy",
    [node({ id: "a", gpus: ["A100"], busy: [0] })],
    task("a", { demand: gpus(1) }),
    "NO_CAPACITY",
    "busy",
  ],
  [
    "more GPUs than any node has",
    [node({ id: "a", gpus: ["A100"] })],
    task("a", { demand: gpus(2) }),
    "UNSATISFIABLE",
    "too few GPUs",
  ],
  [
    "more CPU than is free",
    [node({ id: "a", gpus: ["A100"], busy: [0] })],
    task("a", { demand: { ...demand, cpuMillis: 7_500 } }),
    "NO_CAPACITY",
    "CPU",
  ],
  [
    "no such runtime",
    [node({ id: "a", runtimes: ["container"] })],
    task("a"),
    "UNSATISFIABLE",
    "process",
  ],
  [
    "a node that drains",
    [node({ id: "a", acceptsWork: false })],
    task("a"),
    "NO_CAPACITY",
    "takes no work",
  ],
  [
    "a pause before a retry",
    [node({ id: "a" })],
    task("a", { notBeforeMs: 10 }),
    "RETRY_BACKOFF",
    "pause",
  ],
] as const)("%s: the task waits and hears why", (_what, nodes, waiting, reason, words) => {
  const plan = planner().plan(state({ nodes, tasks: [waiting] }), 0);
  expect(plan.placements).toEqual([]);
  expect(plan.reasons.get(waiting.id)?.reason).toBe(reason);
  expect(plan.reasons.get(waiting.id)?.message).toContain(words);
});

test("higher priority goes first, then the earlier submit", () => {
  const nodes = [node({ id: "a", gpus: ["A100"] })];
  const one = gpus(1);
  const tasks = [
    task("late", { demand: one, submittedMs: 2 }),
    task("early", { demand: one, submittedMs: 1 }),
    task("urgent", { demand: one, submittedMs: 3, priority: 5 }),
  ];
  expect(
    planner()
      .plan(state({ nodes, tasks }), 0)
      .placements.map(({ task: { id } }) => id),
  ).toEqual(["task-urgent"]);
  expect(
    planner()
      .plan(state({ nodes, tasks: tasks.slice(0, 2) }), 0)
      .placements.map(({ task: { id } }) => id),
  ).toEqual(["task-early"]);
});

test("models go in the order of preference", () => {
  const nodes = [node({ id: "a", gpus: ["A100", "H100"] })];
  const wanted = task("a", { demand: gpus(1, { gpuModels: ["H100", "A100"] }) });
  expect(
    planner().plan(state({ nodes, tasks: [wanted] }), 0).placements[0]?.members[0]?.gpus,
  ).toEqual([gpuId("a", 1)]);
});

test("a GPU that a task was hurt by is not given to it again", () => {
  const nodes = [node({ id: "a", gpus: ["A100", "A100"] })];
  const hurt = task("a", { demand: gpus(1), excludedGpus: [gpuId("a", 0)] });
  expect(
    planner().plan(state({ nodes, tasks: [hurt] }), 0).placements[0]?.members[0]?.gpus,
  ).toEqual([gpuId("a", 1)]);
});

test("an array is spread over the leases that fit, and stays within its parallelism", () => {
  const nodes = [node({ id: "a", gpus: ["A100", "A100"] })];
  const array = (leasesLeft: number) =>
    task("a", { demand: gpus(1), array: { pending: 501, leasesLeft } });
  const two = planner().plan(state({ nodes, tasks: [array(10)] }), 0).placements;
  expect(two.map(({ elements }) => elements)).toEqual([251, 250]);
  const one = planner().plan(state({ nodes, tasks: [array(1)] }), 0).placements;
  expect(one.map(({ elements }) => elements)).toEqual([501]);
});

const fleets = fc.array(
  fc.record({
    gpus: fc.integer({ min: 0, max: 4 }),
    busy: fc.integer({ min: 0, max: 4 }),
    cpus: fc.integer({ min: 1, max: 8 }),
  }),
  { minLength: 1, maxLength: 5 },
);
const queues = fc.array(
  fc.record({
    gpus: fc.integer({ min: 0, max: 3 }),
    cpus: fc.integer({ min: 1, max: 4 }),
    array: fc.option(fc.integer({ min: 1, max: 3_000 })),
  }),
  { maxLength: 12 },
);

function scene(
  fleet: readonly { gpus: number; busy: number; cpus: number }[],
  queue: readonly { gpus: number; cpus: number; array: number | null }[],
) {
  const nodes = fleet.map((each, at) =>
    node({
      id: `n${at}`,
      gpus: Array.from({ length: each.gpus }, () => "A100"),
      busy: Array.from({ length: Math.min(each.busy, each.gpus) }, (_, i) => i),
      cpuMillis: (each.cpus + Math.min(each.busy, each.gpus)) * 1_000,
    }),
  );
  const tasks = queue.map((each, at) =>
    task(`t${at}`, {
      submittedMs: at,
      demand: { ...gpus(each.gpus), cpuMillis: each.cpus * 1_000 },
      array: each.array === null ? undefined : { pending: each.array, leasesLeft: each.array },
    }),
  );
  return { nodes, tasks };
}

test("capacity is never exceeded, and no GPU is given out twice", () => {
  fc.assert(
    fc.property(fleets, queues, (fleet, queue) => {
      const { nodes, tasks } = scene(fleet, queue);
      const { placements } = planner().plan(state({ nodes, tasks }), 0);
      const given = placements.flatMap(({ members }) => members.flatMap((member) => member.gpus));
      expect(new Set(given).size).toBe(given.length);
      for (const each of nodes) {
        const here = placements.filter(({ members }) => members[0]?.node === each.id);
        const free = new Set(each.gpus.filter((gpu) => gpu.free).map((gpu) => gpu.id));
        expect(here.every(({ members }) => members[0]?.gpus.every((id) => free.has(id)))).toBe(
          true,
        );
        const cpu = here.reduce((sum, { task: { demand: of } }) => sum + of.cpuMillis, 0);
        const used = each.running.reduce((sum, lease) => sum + lease.cpuMillis, 0);
        expect(cpu + used).toBeLessThanOrEqual(each.cpuMillis);
      }
    }),
  );
});

test("a planner that has seen other cycles decides as a new one with the same arrivals would (trial rolled back)", () => {
  fc.assert(
    fc.property(fleets, queues, (fleet, queue) => {
      const { nodes, tasks } = scene(fleet, queue);
      const used = planner();
      const first = used.plan(state({ nodes, tasks }), 0);
      const again = used.plan(state({ nodes, tasks }), 0);
      expect(again.placements.map(({ members, elements }) => ({ members, elements }))).toEqual(
        first.placements.map(({ members, elements }) => ({ members, elements })),
      );
    }),
  );
});

test("a node that is gone gets nothing", () => {
  const used = planner();
  const both = [node({ id: "a" }), node({ id: "b" })];
  used.plan(state({ nodes: both, tasks: [] }), 0);
  const { placements } = used.plan(state({ nodes: both.slice(1), tasks: [task("x")] }), 0);
  expect(placements.map(({ members }) => members[0]?.node)).toEqual(["node-b"]);
});

test("a node that comes back smaller than what runs on it gets nothing, and spoils nothing for the others", () => {
  const small = { ...node({ id: "a", gpus: ["A100"], busy: [0] }), cpuMillis: 500 };
  const used = planner();
  used.plan(state({ nodes: [node({ id: "a", gpus: ["A100"] })], tasks: [] }), 0);
  const { placements } = used.plan(
    state({ nodes: [small, node({ id: "b" })], tasks: [task("x")] }),
    0,
  );
  expect(placements.map(({ members }) => members[0]?.node)).toEqual(["node-b"]);
  const alone = used.plan(state({ nodes: [small], tasks: [task("x")] }), 0);
  expect(alone.reasons.get("task-x" as TaskId)?.reason).toBeDefined();
});
