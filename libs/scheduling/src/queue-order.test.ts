import type { GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withLease, withoutLease } from "./explain/lease.ts";
import {
  gpusOfPlacement,
  plainTask,
  type Demand,
  type Plan,
  type PlanNode,
  type PlanQueue,
  type PlanState,
  type PlanTask,
} from "./plan.ts";
import { createPlanner } from "./planner.ts";
import { defaultSchedulingPolicy } from "./scheduling-policy.ts";

const demand: Demand = {
  runtime: "process",
  gpuCount: 1,
  gpuModels: [],
  gpuMinMemoryMib: 0,
  simulatedOk: true,
  cpuMillis: 1_000,
  memoryMib: 1_024,
  diskMib: 0,
};

function node(id: string, gpus: number, cpuMillis = 64_000): PlanNode {
  return {
    id: `node-${id}` as NodeId,
    name: id,
    acceptsWork: true,
    runtimes: ["process"],
    cpuMillis,
    memoryMib: 1_000_000,
    diskMib: 1_000_000,
    gpus: Array.from({ length: gpus }, (_, at) => ({
      id: `gpu-${id}-${at}` as GpuId,
      model: "A100",
      memoryMib: 80_000,
      simulated: false,
      free: true,
      reservedFor: undefined,
    })),
    topology: {},
    running: [],
  };
}

/** A task of `org/project`. */
function task(id: string, owner: string, over: Partial<PlanTask> = {}): PlanTask {
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: `org-${owner.split("/")[0]}` as OrgId,
    project: `proj-${owner.split("/")[1]}` as ProjectId,
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

const many = (count: number, owner: string, over: Partial<PlanTask> = {}): PlanTask[] =>
  Array.from({ length: count }, (_, at) =>
    task(`${owner}-${String(at).padStart(3, "0")}`, owner, over),
  );

/** The queue of an organisation (`a`) or of a project (`a/x`). */
function queue(owner: string, over: Partial<PlanQueue>): PlanQueue {
  const [org, project] = owner.split("/");
  return {
    org: `org-${org}` as OrgId,
    project: project === undefined ? undefined : (`proj-${project}` as ProjectId),
    user: undefined,
    weight: 1,
    guaranteedGpus: 0,
    limitGpus: undefined,
    models: {},
    ...over,
  };
}

/** A state in which nobody had service before, and nothing is reserved. */
const state = (of: Pick<PlanState, "nodes" | "tasks"> & Partial<PlanState>): PlanState => ({
  queues: [],
  usage: [],
  reservations: [],
  ...of,
});

const newPlanner = () => createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
const plan = (of: Parameters<typeof state>[0]): Plan => newPlanner().plan(state(of), 0);

/** GPUs (or without GPUs: leases) that a plan gives each project. */
function given({ placements }: Pick<Plan, "placements">): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const each of placements) {
    const { project } = each.task;
    sums[project] = (sums[project] ?? 0) + Math.max(1, gpusOfPlacement(each).length);
  }
  return sums;
}

describe("shares", () => {
  test("follow the weights of projects, whoever came first", () => {
    const tasks = [...many(20, "a/x"), ...many(20, "a/y", { submittedMs: 5 })];
    const queues = [queue("a/y", { weight: 3 })];
    expect(given(plan({ nodes: [node("n", 8)], tasks, queues }))).toEqual({
      "proj-x": 2,
      "proj-y": 6,
    });
  });

  test("are of organisations first: many projects get no more than one", () => {
    const tasks = [...many(20, "a/x"), ...many(20, "b/u"), ...many(20, "b/v")];
    expect(given(plan({ nodes: [node("n", 8)], tasks, queues: [] }))).toEqual({
      "proj-x": 4,
      "proj-u": 2,
      "proj-v": 2,
    });
  });

  test("go to who has work: nothing stays idle for a share", () => {
    const queues = [queue("a/y", { weight: 100 })];
    const tasks = [...many(20, "a/x"), ...many(1, "a/y")];
    expect(given(plan({ nodes: [node("n", 8)], tasks, queues }))).toEqual({
      "proj-x": 7,
      "proj-y": 1,
    });
  });

  test("hold for tasks without GPUs too, by cores, with and without GPUs in the fleet", () => {
    const cores = { demand: { ...demand, gpuCount: 0 } };
    const tasks = [...many(20, "a/x", cores), ...many(20, "a/y", cores)];
    const queues = [queue("a/y", { weight: 3 })];
    for (const gpus of [0, 8]) {
      const sums = given(plan({ nodes: [node("n", gpus, 16_000)], tasks, queues }));
      expect(sums).toEqual({ "proj-x": 4, "proj-y": 12 });
    }
  });

  test("count arrays by their leases", () => {
    const array = { array: { pending: 1_000, leasesLeft: 1_000 } };
    const tasks = [task("x", "a/x", array), task("y", "a/y", array)];
    const queues = [queue("a/y", { weight: 3 })];
    expect(given(plan({ nodes: [node("n", 8)], tasks, queues }))).toEqual({
      "proj-x": 2,
      "proj-y": 6,
    });
  });

  test("within a project, what has had much service goes after what has had little", () => {
    const tired = task("tired", "a/x", { attainedGpuMs: 40 * 3_600_000 });
    const fresh = task("fresh", "a/x", { submittedMs: 9 });
    const { placements } = plan({ nodes: [node("n", 1)], tasks: [tired, fresh], queues: [] });
    expect(placements.map((placement) => placement.task.id)).toEqual([fresh.id]);
  });
});

test("a share is not lost to fresh tasks: what was requeued after 100 GPU-hours starts all the same", () => {
  const tired = many(20, "a/x", { attainedGpuMs: 100 * 3_600_000, submittedMs: 9 });
  const sums = given(
    plan({ nodes: [node("n", 8)], tasks: [...tired, ...many(20, "b/y")], queues: [] }),
  );
  // 7.6 doublings of service cost it at most 0.76 doublings of share: 3 of 8 GPUs instead of 4.
  expect(sums["proj-x"]).toBeGreaterThanOrEqual(3);
});

test("what can be stopped trades with others by its service, and keeps a quarter of its queue's share at the worst", () => {
  const on = { preemptible: true };
  const tired = many(20, "a/x", { ...on, attainedGpuMs: 1_000 * 3_600_000, submittedMs: 9 });
  const sums = given(
    plan({ nodes: [node("n", 16)], tasks: [...tired, ...many(40, "b/y", on)], queues: [] }),
  );
  expect(sums["proj-x"]).toBeLessThan(8);
  expect(sums["proj-x"]).toBeGreaterThanOrEqual(2);
});

test("a guarantee is served before every share", () => {
  const queues = [queue("a/x", { weight: 1_000 }), queue("a/y", { guaranteedGpus: 5 })];
  const tasks = [...many(20, "a/x"), ...many(20, "a/y")];
  expect(given(plan({ nodes: [node("n", 8)], tasks, queues }))["proj-y"]).toBe(5);
});

test("priority is strict within a project and says nothing between projects", () => {
  const tasks = [
    ...many(20, "a/x", { priority: 100 }),
    ...many(20, "a/y"),
    task("urgent", "a/y", { priority: 1, submittedMs: 99, attainedGpuMs: 1e9 }),
  ];
  const { placements } = plan({ nodes: [node("n", 4)], tasks, queues: [] });
  const ids = placements.map((placement) => placement.task.id);
  expect(given({ placements })).toEqual({
    "proj-x": 2,
    "proj-y": 2,
  });
  expect(ids).toContain("task-urgent");
});

test("an urgent task that finds no room does not hold up the rest of its project", () => {
  const wide = task("wide", "a/x", { priority: 9, demand: { ...demand, gpuCount: 8 } });
  const tasks = [wide, ...many(2, "a/x")];
  expect(given(plan({ nodes: [node("n", 4)], tasks, queues: [] }))).toEqual({ "proj-x": 2 });
});

describe("a limit", () => {
  const nodes = [node("n", 8)];

  test("of a project keeps the rest waiting, and says so", () => {
    const queues = [queue("a/x", { limitGpus: 3 })];
    const tasks = many(5, "a/x");
    const { placements, reasons } = plan({ nodes, tasks, queues });
    expect(placements).toHaveLength(3);
    expect(reasons.get(tasks[4]!.id)).toEqual({
      reason: "QUOTA_EXCEEDED",
      message: "the project holds 3 of at most 3 GPUs",
    });
  });

  test("of an organisation binds its projects together, and nobody else", () => {
    const queues = [queue("a", { limitGpus: 2 })];
    const tasks = [...many(5, "a/x"), ...many(5, "a/y"), ...many(5, "b/z")];
    const decided = plan({ nodes, tasks, queues });
    expect(given(decided)).toEqual({ "proj-x": 1, "proj-y": 1, "proj-z": 5 });
    expect(decided.reasons.get(tasks[4]!.id)?.message).toContain("the organisation holds 2");
  });

  test("lets smaller tasks past one that would pass it", () => {
    const queues = [queue("a/x", { limitGpus: 3 })];
    const wide = task("wide", "a/x", { demand: { ...demand, gpuCount: 4 } });
    expect(given(plan({ nodes, tasks: [wide, ...many(5, "a/x")], queues }))["proj-x"]).toBe(3);
  });

  test("is of GPUs: tasks without them run on", () => {
    const queues = [queue("a/x", { limitGpus: 0 })];
    const cores = { demand: { ...demand, gpuCount: 0 } };
    expect(given(plan({ nodes, tasks: many(4, "a/x", cores), queues }))["proj-x"]).toBe(4);
  });

  test("is not the reason where the fleet could never run the task", () => {
    const queues = [queue("a/x", { limitGpus: 3 })];
    const huge = task("huge", "a/x", { demand: { ...demand, gpuCount: 9 } });
    expect(plan({ nodes, tasks: [huge], queues }).reasons.get(huge.id)?.reason).toBe(
      "UNSATISFIABLE",
    );
  });
});

const owners = fc.constantFrom("a/x", "a/y", "b/z");
const arbitraryTasks = fc
  .array(
    fc.record({
      owner: owners,
      gpuCount: fc.integer({ min: 0, max: 4 }),
      priority: fc.integer({ min: -2, max: 2 }),
      submittedMs: fc.integer({ min: 0, max: 3 }),
      leases: fc.option(fc.integer({ min: 0, max: 5 })),
    }),
    { maxLength: 25 },
  )
  .map((rows) =>
    rows.map(({ owner, gpuCount, priority, submittedMs, leases }, at) =>
      task(`t${at}`, owner, {
        priority,
        submittedMs,
        demand: { ...demand, gpuCount },
        array: leases === null ? undefined : { pending: 7, leasesLeft: leases },
      }),
    ),
  );
const arbitraryQueues = fc
  .uniqueArray(
    fc.record({
      owner: fc.constantFrom("a", "b", "a/x", "a/y", "b/z"),
      weight: fc.integer({ min: 1, max: 9 }),
      guaranteed: fc.integer({ min: 0, max: 4 }),
      spare: fc.option(fc.integer({ min: 0, max: 6 })),
    }),
    { selector: ({ owner }) => owner, maxLength: 5 },
  )
  .map((rows) =>
    rows.map(({ owner, weight, guaranteed, spare }) =>
      queue(owner, {
        weight,
        guaranteedGpus: guaranteed,
        limitGpus: spare === null ? undefined : guaranteed + spare,
      }),
    ),
  );
const fleet = [node("n", 4), node("m", 4), node("c", 0)];

/** GPUs that each organisation and project holds. */
function held(nodes: readonly PlanNode[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { org, project, gpus } of nodes.flatMap((each) => each.running)) {
    for (const of of [org, project]) sums.set(of, (sums.get(of) ?? 0) + gpus.length);
  }
  return sums;
}

test("no limit is ever passed, over cycles in which leases come and go", () => {
  fc.assert(
    fc.property(
      arbitraryTasks,
      arbitraryQueues,
      fc.array(fc.nat(20), { maxLength: 10 }),
      (tasks, queues, ends) => {
        const planner = newPlanner();
        let nodes: readonly PlanNode[] = fleet;
        for (const [cycle, end] of ends.entries()) {
          for (const each of planner.plan(state({ nodes, tasks, queues }), cycle).placements) {
            nodes = nodes.map((on) =>
              each.members.reduce(
                (held, { node: at, gpus }) =>
                  at === on.id ? withLease(held, each.task, { gpus, nowMs: cycle }) : held,
                on,
              ),
            );
          }
          const now = held(nodes);
          for (const { org, project, limitGpus = Infinity } of queues) {
            expect(now.get(project ?? org) ?? 0).toBeLessThanOrEqual(limitGpus);
          }
          nodes = nodes.map((on) =>
            on.running.length === 0 ? on : withoutLease(on, end % on.running.length),
          );
        }
      },
    ),
  );
});

test("the order of tasks and queues in the input does not matter", () => {
  fc.assert(
    fc.property(arbitraryTasks, arbitraryQueues, (tasks, queues) => {
      const outcome = (of: Parameters<typeof plan>[0]) =>
        plan(of)
          .placements.map((each) => `${each.task.id} ${gpusOfPlacement(each).length}`)
          .toSorted();
      expect(
        outcome({ nodes: fleet, tasks: tasks.toReversed(), queues: queues.toReversed() }),
      ).toEqual(outcome({ nodes: fleet, tasks, queues }));
    }),
  );
});

test("what waits has a reason, and what starts has none", () => {
  fc.assert(
    fc.property(arbitraryTasks, arbitraryQueues, (tasks, queues) => {
      const { placements, reasons } = plan({ nodes: fleet, tasks, queues });
      const started = new Set(placements.map((placement) => placement.task.id));
      for (const { id } of tasks) expect(reasons.has(id)).toBe(!started.has(id));
    }),
  );
});

test("with work without end, GPU time converges to the weights within a GPU", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 1, max: 5 }),
      fc.infiniteStream(fc.nat(1_000)),
      (x, y, picks) => {
        const queues = [queue("a/x", { weight: x }), queue("a/y", { weight: y })];
        const planner = newPlanner();
        const tasks = [...many(12, "a/x"), ...many(12, "a/y", { submittedMs: 1 })];
        let at: PlanNode = node("n", 12);
        for (let cycle = 0; cycle < 30; cycle++) {
          for (const each of planner.plan(state({ nodes: [at], tasks, queues }), cycle)
            .placements) {
            at = withLease(at, each.task, { gpus: gpusOfPlacement(each), nowMs: cycle });
          }
          const heldX = held([at]).get("proj-x") ?? 0;
          expect(Math.abs(heldX - (12 * x) / (x + y))).toBeLessThanOrEqual(1);
          at = withoutLease(at, picks.next().value % at.running.length);
        }
      },
    ),
    { numRuns: 25 },
  );
});
