import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  plainTask,
  type Demand,
  type PlanNode,
  type PlanQueue,
  type PlanState,
  type PlanTask,
} from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { lease } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";
import { explainTask, type Explanation } from "./explain.ts";
import { longest } from "./future.ts";
import { withoutAttempt, withoutLease } from "./lease.ts";
import { withLimits } from "./quotas.ts";
import type { Remedy } from "./remedies.ts";

const base: Demand = {
  runtime: "process",
  gpuCount: 1,
  gpuModels: [],
  gpuMinMemoryMib: 0,
  simulatedOk: true,
  cpuMillis: 1_000,
  memoryMib: 1_024,
  diskMib: 0,
};

interface NodeOf {
  readonly id: string;
  readonly gpus: readonly string[];
  readonly busy?: readonly number[];
  /** When what holds the busy ones ends. */
  readonly ends?: readonly number[];
  readonly simulated?: boolean;
  readonly runtimes?: readonly string[];
  readonly gpuMemoryMib?: number;
  readonly cpuMillis?: number;
}

function node(of: NodeOf): PlanNode {
  const busy = of.busy ?? [];
  const gpuId = (at: number): GpuId => `gpu-${of.id}-${at}` as GpuId;
  return {
    id: `node-${of.id}` as NodeId,
    name: of.id,
    acceptsWork: true,
    runtimes: of.runtimes ?? ["process", "container"],
    cpuMillis: of.cpuMillis ?? 8_000,
    memoryMib: 65_536,
    diskMib: 100_000,
    gpus: of.gpus.map((model, at) => ({
      id: gpuId(at),
      model,
      memoryMib: of.gpuMemoryMib ?? 80_000,
      simulated: of.simulated ?? false,
      free: !busy.includes(at),
      reservedFor: undefined,
    })),
    topology: {},
    running: busy.map((at, nth) =>
      lease({
        attempt: `att-${of.id}-${at}` as AttemptId,
        gpus: [gpuId(at)],
        endsByMs: of.ends?.[nth] ?? Number.POSITIVE_INFINITY,
      }),
    ),
  };
}

function task(id: string, demand: Partial<Demand> = {}, over: Partial<PlanTask> = {}): PlanTask {
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: "org-a" as OrgId,
    project: "proj-a" as ProjectId,
    epoch: 0,
    priority: 0,
    submittedMs: 0,
    notBeforeMs: 0,
    demand: { ...base, ...demand },
    stopGraceMs: 0,
    maxRuntimeMs: hour,
    excludedGpus: [],
    array: undefined,
    ...over,
  };
}

interface Case {
  readonly nodes: readonly PlanNode[];
  readonly waiting?: readonly PlanTask[];
  readonly nowMs?: number;
  readonly goOn?: () => boolean;
  readonly projects?: readonly ProjectId[];
  readonly over?: Partial<PlanState>;
}

const rng = () => 0.5;
const state = (of: Pick<PlanState, "nodes" | "tasks"> & Partial<PlanState>): PlanState => ({
  queues: [],
  usage: [],
  reservations: [],
  ...of,
});
const hour = 3_600_000;

function explain(subject: PlanTask, of: Case): Explanation {
  return explainTask({
    state: state({ nodes: of.nodes, tasks: of.waiting ?? [subject], ...of.over }),
    task: subject,
    nowMs: of.nowMs ?? 0,
    longest,
    policy: defaultSchedulingPolicy,
    rng,
    ...(of.goOn === undefined ? {} : { goOn: of.goOn }),
    ...(of.projects === undefined ? {} : { projects: of.projects }),
  });
}

/** Whether the planner would start the task now. */
function starts(now: PlanState, subject: PlanTask): boolean {
  const { placements } = createPlanner({ policy: defaultSchedulingPolicy, rng }).plan(now, 0);
  return placements.some((placement) => placement.task.id === subject.id);
}

describe("a task that waits", () => {
  test("for a full model hears of the other model, of the busy GPUs, and when one is free at the latest", () => {
    const nodes = [
      node({ id: "a", gpus: ["H100", "H100"], busy: [0, 1], ends: [5 * hour, 3 * hour] }),
      node({ id: "b", gpus: ["A100"] }),
    ];
    const told = explain(task("t", { gpuModels: ["H100"] }), { nodes });
    expect(told.fit).toEqual({
      nodes: 2,
      fitting: 0,
      blockers: expect.arrayContaining([
        { check: "gpu_busy", nodes: 1, nodesOtherwiseFit: 1 },
        { check: "gpu_model", nodes: 1, nodesOtherwiseFit: 1 },
      ]),
    });
    expect(told).toMatchObject({ queuePosition: 1, fitsOnceFree: true, earliestMs: 0 });
    expect(told.forecast).toMatchObject({ kind: "starts", atMs: 3 * hour, freedOn: "node-a" });
    expect(told.remedies).toMatchObject([
      {
        kind: "change",
        fields: ["gpuModels"],
        task: { demand: { gpuModels: ["H100", "A100"] } },
        startsByMs: 0,
      },
      { kind: "end", holder: { attempt: "att-a-1", gpus: 1 }, startsByMs: 0 },
      { kind: "wait", startsByMs: 3 * hour },
    ]);
  });

  test("with more GPUs than any node has is told how many would do, now and later", () => {
    const nodes = [
      node({ id: "a", gpus: ["H100", "H100", "H100"], busy: [0], ends: [hour] }),
      node({ id: "b", gpus: ["H100"] }),
    ];
    const told = explain(task("t", { gpuCount: 8 }), { nodes });
    expect(told).toMatchObject({ fitsOnceFree: false, earliestMs: undefined });
    expect(told.forecast).toEqual({ kind: "never" });
    expect(told.fit.blockers).toEqual([{ check: "gpu_count", nodes: 2, nodesOtherwiseFit: 2 }]);
    expect(told.remedies).toMatchObject([
      { fields: ["gpuCount"], task: { demand: { gpuCount: 2 } }, startsByMs: 0 },
      { fields: ["gpuCount"], task: { demand: { gpuCount: 3 } }, startsByMs: hour },
    ]);
  });

  test("too far ahead is still told what would do, and about when", () => {
    const nodes = [node({ id: "a", gpus: ["X", "X"], busy: [0, 1], ends: [hour, hour] })];
    // Enough for the search of what would do, too little for the turn of a forecast after it.
    let left = 4;
    const told = explain(task("t", { gpuCount: 4 }), { nodes, goOn: () => left-- > 0 });
    expect(told.remedies).toMatchObject([
      { task: { demand: { gpuCount: 2 } }, startsByMs: 1.67 * hour },
    ]);
  });

  test("for more GPUs than the engine takes on one node is told the same", () => {
    const told = explain(task("t", { gpuCount: 64 }), {
      nodes: [node({ id: "a", gpus: ["X", "X"] })],
    });
    expect(told.fit.blockers).toEqual([{ check: "gpu_count", nodes: 1, nodesOtherwiseFit: 1 }]);
    expect(told.remedies).toMatchObject([
      { fields: ["gpuCount"], task: { demand: { gpuCount: 2 } } },
    ]);
  });

  test("for a real GPU is told that a simulated one is there", () => {
    const nodes = [node({ id: "a", gpus: ["S"], simulated: true })];
    const told = explain(task("t", { simulatedOk: false }), { nodes });
    expect(told.fit.blockers).toEqual([{ check: "gpu_simulated", nodes: 1, nodesOtherwiseFit: 1 }]);
    expect(told.remedies).toMatchObject([
      { fields: ["simulatedOk"], task: { demand: { simulatedOk: true } }, startsByMs: 0 },
    ]);
  });

  test("hears of two changes where no single one helps, each as small as it can be", () => {
    const nodes = [node({ id: "a", gpus: ["S", "S", "S"], simulated: true })];
    const told = explain(task("t", { gpuCount: 4, simulatedOk: false }), { nodes });
    expect(told.remedies).toMatchObject([
      { fields: ["gpuCount", "simulatedOk"], task: { demand: { gpuCount: 3, simulatedOk: true } } },
    ]);
  });

  test("for CPU is told how much is free, and of a GPU's memory how much there is", () => {
    const nodes = [node({ id: "a", gpus: ["X", "X"], busy: [0], gpuMemoryMib: 40_000 })];
    const cpu = explain(task("t", { cpuMillis: 7_500 }), { nodes });
    expect(cpu.remedies[0]).toMatchObject({
      fields: ["cpuMillis"],
      task: { demand: { cpuMillis: 7_000 } },
    });
    const memory = explain(task("t", { gpuMinMemoryMib: 60_000 }), { nodes });
    expect(memory.remedies[0]).toMatchObject({
      fields: ["gpuMinMemoryMib"],
      task: { demand: { gpuMinMemoryMib: 40_000 } },
    });
  });

  test("for a runtime that few nodes have hears of those nodes", () => {
    const nodes = [
      node({ id: "a", gpus: ["X"], runtimes: ["container"] }),
      node({ id: "b", gpus: ["X"], busy: [0] }),
    ];
    const told = explain(task("t"), { nodes });
    expect(told.fit.blockers).toEqual(
      expect.arrayContaining([
        { check: "runtime", nodes: 1, nodesOtherwiseFit: 1 },
        { check: "gpu_busy", nodes: 1, nodesOtherwiseFit: 1 },
      ]),
    );
  });

  test("for the GPU that failed it is told so", () => {
    const nodes = [node({ id: "a", gpus: ["X"] })];
    const told = explain(task("t", {}, { excludedGpus: ["gpu-a-0" as GpuId] }), { nodes });
    expect(told.fit).toMatchObject({
      fitting: 0,
      blockers: [{ check: "gpu_excluded", nodes: 1, nodesOtherwiseFit: 1 }],
    });
  });

  test("behind others starts after them at the latest, each for as long as it may run", () => {
    const nodes = [node({ id: "a", gpus: ["X"], busy: [0], ends: [hour] })];
    const first = task("a", {}, { submittedMs: 1 });
    const urgent = task("b", {}, { priority: 5, submittedMs: 9 });
    const last = task("c", {}, { submittedMs: 2 });
    const told = explain(last, { nodes, waiting: [first, urgent, last] });
    expect(told).toMatchObject({ queuePosition: 3, queueLength: 3 });
    expect(told.forecast).toMatchObject({ kind: "starts", atMs: 3 * hour });
  });

  test("waits out its pause, and no longer", () => {
    const told = explain(task("t", {}, { notBeforeMs: 5_000 }), {
      nodes: [node({ id: "a", gpus: ["X"] })],
    });
    expect(told).toMatchObject({ earliestMs: 5_000, remedies: [] });
    expect(told.forecast).toMatchObject({ kind: "starts", atMs: 5_000 });
  });

  test("without any node waits for one", () => {
    const told = explain(task("t"), { nodes: [] });
    expect(told).toMatchObject({
      fit: { nodes: 0, blockers: [] },
      remedies: [],
      fitsOnceFree: false,
    });
  });

  test("of an array starts after an array before it that takes several turns", () => {
    const nodes = [node({ id: "a", gpus: ["X"] })];
    const array = task("a", {}, { array: { pending: 1_500, leasesLeft: 1 } });
    const told = explain(task("b", {}, { submittedMs: 1 }), {
      nodes,
      waiting: [array, task("b", {}, { submittedMs: 1 })],
    });
    // 1,000 elements in the first lease, then the others: it stays ahead in line.
    expect(told.forecast).toMatchObject({ kind: "starts", atMs: 1_500 * hour });
  });
});

describe("a gang that waits", () => {
  test("for more members than fit hears how many fit, how many lack, and the largest that would start", () => {
    const nodes = [node({ id: "a", gpus: ["X", "X"] }), node({ id: "b", gpus: ["X", "X"] })];
    const told = explain(task("t", {}, { replicas: 5 }), { nodes });
    expect(told.gang).toEqual({ members: 5, fitting: 4, largestNow: 4 });
    expect(told.remedies).toMatchObject([
      { kind: "change", fields: ["replicas"], task: { replicas: 4 }, startsByMs: 0 },
    ]);
  });

  test("for places that its topology does not find hears of fewer members, and of going without it", () => {
    const nodes = [node({ id: "a", gpus: ["X", "X"] }), node({ id: "b", gpus: ["X", "X"] })];
    const gang = task("t", {}, { replicas: 3, topology: { within: "node" } });
    const told = explain(gang, { nodes });
    expect(told.gang).toEqual({ members: 3, fitting: 3, largestNow: 2 });
    expect(told.remedies).toMatchObject([
      { fields: ["replicas"], task: { replicas: 2 }, startsByMs: 0 },
      { fields: ["topology"], task: { replicas: 3, topology: {} }, startsByMs: 0 },
    ]);
  });
});

test("limits of a user, and of one model, are told each by itself, and raised together", () => {
  const nodes = [node({ id: "a", gpus: ["X", "X", "Y"], busy: [0] })];
  const row = { org: "org-a" as OrgId, project: "proj-a" as ProjectId, weight: 1 };
  const queues: PlanQueue[] = [
    { ...row, user: "", guaranteedGpus: 0, limitGpus: 1, models: {} },
    {
      ...{ ...row, user: undefined, guaranteedGpus: 0, limitGpus: undefined },
      models: { X: { guaranteedGpus: 0, limitGpus: 1 } },
    },
  ];
  const told = explain(task("t", { gpuModels: ["X"] }), { nodes, over: { queues } });
  expect(told.quotas).toMatchObject([
    { queue: { user: "" }, model: undefined, limitGpus: 1, heldGpus: 1, neededGpus: 2 },
    { queue: { user: undefined }, model: "X", limitGpus: 1, heldGpus: 1, neededGpus: 2 },
  ]);
  expect(told.remedies[0]).toMatchObject({ kind: "limit", startsByMs: 0 });
});

const queueOf = (limitGpus: number): PlanQueue => ({
  ...{ org: "org-a" as OrgId, project: "proj-a" as ProjectId, user: undefined },
  ...{ weight: 1, guaranteedGpus: 0, limitGpus, models: {} },
});

const models = ["A", "B", "C"];
const arbitraryNode = (at: number) =>
  fc
    .record({
      gpus: fc.array(fc.constantFrom(...models), { maxLength: 4 }),
      busy: fc.uniqueArray(fc.nat(3), { maxLength: 4 }),
      simulated: fc.boolean(),
      gpuMemoryMib: fc.constantFrom(16_000, 40_000, 80_000),
      cpuMillis: fc.integer({ min: 4_000, max: 9_000 }),
    })
    .map((of) =>
      node({
        ...of,
        id: `n${at}`,
        busy: of.busy.filter((gpu) => gpu < of.gpus.length),
        ends: of.busy.map((_, nth) => (nth + 1) * hour),
      }),
    );
const arbitraryDemand = fc.record({
  gpuCount: fc.integer({ min: 0, max: 6 }),
  gpuModels: fc.uniqueArray(fc.constantFrom(...models), { maxLength: 2 }),
  gpuMinMemoryMib: fc.constantFrom(0, 30_000, 60_000, 90_000),
  simulatedOk: fc.boolean(),
  cpuMillis: fc.integer({ min: 100, max: 12_000 }),
});
const arbitraryCase = fc
  .record({
    nodes: fc
      .integer({ min: 1, max: 5 })
      .chain((count) => fc.tuple(...Array.from({ length: count }, (_, at) => arbitraryNode(at)))),
    others: fc.array(fc.tuple(arbitraryDemand, fc.integer({ min: -2, max: 2 })), { maxLength: 6 }),
    demand: arbitraryDemand,
    limitGpus: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined, freq: 2 }),
  })
  .map(({ nodes, others, demand, limitGpus }) => ({
    nodes,
    queues: limitGpus === undefined ? [] : [queueOf(limitGpus)],
    subject: task("me", demand),
    others: others.map(([each, priority], at) => task(`o${at}`, each, { priority })),
  }));

/** The state once a remedy was applied, at the time that it names; undefined where others' ends decide that too. */
function after(
  remedy: Remedy,
  of: {
    nodes: readonly PlanNode[];
    others: readonly PlanTask[];
    subject: PlanTask;
    queues: readonly PlanQueue[];
  },
): PlanState | undefined {
  const { nodes, others, subject, queues } = of;
  const { startsByMs } = remedy;
  if (startsByMs === undefined || (startsByMs > 0 && others.length > 0)) return undefined;
  const then = nodes.map((each) =>
    each.running.reduceRight(
      (left, { endsByMs }, at) => (endsByMs <= startsByMs ? withoutLease(left, at) : left),
      each,
    ),
  );
  switch (remedy.kind) {
    case "change":
      return state({ nodes: then, queues, tasks: [...others, remedy.task] });
    case "project": {
      const moved = { ...subject, project: remedy.project };
      return state({ nodes: then, queues, tasks: [...others, moved] });
    }
    case "end": {
      const { attempt } = remedy.holder;
      const freed = then.map((each) => withoutAttempt(each, attempt));
      return state({ nodes: freed, queues, tasks: [...others, subject] });
    }
    case "limit": {
      const raised = withLimits(queues, remedy.quotas);
      return state({ nodes: then, queues: raised, tasks: [...others, subject] });
    }
    case "wait":
      return state({ nodes: then, queues, tasks: [...others, subject] });
  }
}

/** Whether `me` finds its CPU on n1 hangs on where the other one goes, which was learned from trials before it once. */
const learnedElsewhere = {
  nodes: [
    node({ id: "n0", gpus: ["A"], gpuMemoryMib: 16_000, cpuMillis: 4_000 }),
    node({ id: "n1", gpus: ["C", "A", "A"], busy: [1], ends: [hour], cpuMillis: 4_900 }),
  ],
  queues: [],
  subject: task("me", {
    ...{ gpuCount: 2, gpuModels: ["A"], gpuMinMemoryMib: 90_000 },
    ...{ simulatedOk: false, cpuMillis: 3_900 },
  }),
  others: [task("o0", { gpuCount: 0, simulatedOk: false, cpuMillis: 100 }, { priority: 1 })],
};

test("a remedy that is offered does start the task when applied to the state", () => {
  const offered = new Map<Remedy["kind"], number>();
  fc.assert(
    fc.property(arbitraryCase, ({ nodes, subject, others, queues }) => {
      const waiting = [...others, subject];
      const projects = ["proj-b" as ProjectId];
      const told = explain(subject, { nodes, waiting, projects, over: { queues } });
      for (const remedy of told.remedies) {
        const applied = after(remedy, { nodes, others, subject, queues });
        if (applied === undefined) continue;
        offered.set(remedy.kind, (offered.get(remedy.kind) ?? 0) + 1);
        expect(starts(applied, subject)).toBe(true);
      }
    }),
    { numRuns: 400, examples: [[learnedElsewhere]] },
  );
  for (const kind of ["change", "end", "limit", "project", "wait"] as const)
    expectSeen(offered.get(kind) ?? 0, 0, kind);
});

test("the blockers cover every node that does not fit, and the answer agrees with the plan", () => {
  fc.assert(
    fc.property(arbitraryCase, ({ nodes, subject, others }) => {
      const waiting = [...others, subject];
      const told = explain(subject, { nodes, waiting });
      const { fit, forecast } = told;
      const started = starts(state({ nodes, tasks: waiting }), subject);
      expect(forecast.kind === "starts" && forecast.atMs === 0).toBe(started);
      const stopped = fit.nodes - fit.fitting;
      expect(fit.blockers.reduce((sum, each) => sum + each.nodes, 0)).toBeGreaterThanOrEqual(
        stopped,
      );
      for (const each of fit.blockers)
        expect(each.nodesOtherwiseFit).toBeLessThanOrEqual(each.nodes);
      expect(fit.fitting > 0).toBe(started);
    }),
    { numRuns: 400 },
  );
});

describe("where there is no time to follow every plan", () => {
  // One node ends every half hour; 150 tasks go before the one asked about.
  const nodes = Array.from({ length: 200 }, (_, at) =>
    node({ id: `n${at}`, gpus: ["X"], busy: [0], ends: [((at + 1) * hour) / 2 + 1] }),
  );
  const subject = task("t", {}, { submittedMs: 1_000 });
  const ask = (turnCosts: number, hours = 1_000) => {
    const others = Array.from({ length: hours === Infinity ? 250 : 150 }, (_, at) =>
      task(`o${at}`, {}, { submittedMs: at, maxRuntimeMs: hours * hour }),
    );
    let spent = 0;
    const told = explainTask({
      state: state({ nodes, tasks: [...others, subject] }),
      ...{
        task: subject,
        nowMs: 0,
        longest,
        expected: longest,
        policy: defaultSchedulingPolicy,
        rng,
      },
      goOn: (part) => (spent += turnCosts) < part,
      spent: () => spent,
    });
    return { ...told, spent };
  };

  test("both starts are told by the work before the task, and are not far off", () => {
    const exact = ask(0).forecast;
    const { forecast, expected, remedies } = ask(0.04);
    if (exact.kind !== "starts" || forecast.kind !== "about" || expected?.kind !== "about") {
      throw new Error("no start was told");
    }
    expect(forecast.atMs).toBeGreaterThanOrEqual(exact.atMs);
    expect(forecast.atMs).toBeLessThanOrEqual(2 * exact.atMs);
    expect(expected.atMs).toBe(exact.atMs);
    expect(Number.isInteger(forecast.atMs)).toBe(true);
    // The time is waited for by nobody: to wait is still what helps, beside what makes it shorter.
    expect(remedies.at(-1)).toEqual({ kind: "wait", forecast, startsByMs: forecast.atMs });
    const shorter = remedies.slice(0, -1);
    expect(shorter.map(({ start }) => start?.latest.kind)).toEqual(["about", "about"]);
    for (const { startsByMs } of shorter) expect(startsByMs).toBeLessThan(0.8 * forecast.atMs);
  });

  test("the time is left to what else the answer has to tell", () => {
    expect(ask(0.04).spent).toBeLessThan(0.8);
  });

  test("nothing is told where something before it has no known end", () => {
    expect(ask(0.04, Infinity).forecast).toEqual({ kind: "unknown" });
  });
});
