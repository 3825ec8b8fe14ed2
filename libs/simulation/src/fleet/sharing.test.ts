import { describe, expect, test } from "vitest";
import type { GpuPart, HeldPart, MemberPlace, Plan } from "@fastgpu/scheduling/plan";
import { createPlanner } from "@fastgpu/scheduling/planner";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { noFaults } from "./faults.ts";
import { openbInventory, parseInventory, parseMode, type FleetNode } from "./inventory.ts";
import { drawLoad, usualLoad } from "./load.ts";
import { BrokenPromise } from "./promises.ts";
import { openbWorkload, trainingTrace } from "./readers.ts";
import type { FleetReport } from "./report.ts";
import { simulate, type Scenario } from "./simulate.ts";
import { plainDemand, plainFleetTask, type FleetTask } from "./workload.ts";

const hour = 3_600_000;
const policy = { name: "default", policy: defaultSchedulingPolicy };
const settings = {
  startMs: 1_000,
  stopMs: 10_000,
  restoreMs: 120_000,
  cycleMs: 50,
  tickMs: 60_000,
};

function fleet(spec: string): readonly FleetNode[] {
  const inventory = parseInventory(spec);
  if (inventory.kind === "bad") throw new Error(inventory.problem);
  return inventory.nodes;
}

const share = (milli: number, weakest: "dmem_mps" | "timeslice" = "timeslice"): GpuPart => ({
  kind: "share",
  milli,
  weakest,
});
const instance = (name: string): GpuPart => ({ kind: "mig", profile: `h100-80/${name}` });
const task = (part: GpuPart, of: Partial<FleetTask> = {}): FleetTask => ({
  ...plainFleetTask,
  demand: { ...plainDemand, part },
  ...of,
});

function play(nodes: string, tasks: readonly FleetTask[], of: Partial<Scenario> = {}): FleetReport {
  const workload = { name: "by hand", tasks, queues: [], reservations: [], notes: [] };
  return simulate({ nodes: fleet(nodes), workload, seed: 1, settings, ...of }, policy);
}

describe("parts of GPUs", () => {
  test("a fleet says how its GPUs are given out", () => {
    expect(fleet("2x T4 x 1 nodes, timeslice")[0]!.mode).toEqual({ isolation: "timeslice" });
    expect(fleet("8x H100 x 1 nodes, mig h100-80")[0]!.mode).toEqual({
      isolation: "mig",
      geometry: "h100-80",
    });
    expect(fleet("2x T4 x 1 nodes")[0]).not.toHaveProperty("mode");
    expect(parseMode("MPS")).toEqual({ isolation: "mps" });
    expect(parseMode("mig t4")).toBeUndefined();
  });

  test("shares run side by side and count as such; who finds no share waits", () => {
    const report = play("1x T4 x 1 nodes, timeslice", [
      task(share(500)),
      task(share(300)),
      task(share(300), { atMs: 1 }),
    ]);
    expect(report.waiting.longestMs).toBe(hour + 1_000 - 1);
    expect(Math.max(...report.series.allocated)).toBeLessThanOrEqual(0.8);
    expect(report.gpuHours.useful).toBeCloseTo(1.1, 9);
    expect(report.costNanos).toBe("1100000000");
    expect(report.byWidth.map(({ width }) => width)).toEqual(["part of a GPU"]);
  });

  test("two organisations share no GPU but in MIG instances, and no grade is weaker than asked for", () => {
    const both = (part: GpuPart) => [task(part, { org: "a" }), task(part, { org: "b" })];
    const apart = play("1x T4 x 1 nodes, dmem_mps", both(share(250)));
    expect(apart.waiting.longestMs).toBe(hour + 1_000);
    const beside = play("1x H100 x 1 nodes, mig h100-80", both(instance("3g.40gb")));
    expect(beside.waiting.longestMs).toBe(0);
    const weak = play("1x T4 x 1 nodes, mps", [task(share(250, "dmem_mps"))]);
    expect(weak.tasks.waiting).toEqual({ UNSATISFIABLE: 1 });
  });

  test("a GPU that fails takes all who hold parts of it down, and no one new gets one", () => {
    const report = play(
      "2x T4 x 1 nodes, timeslice",
      [task(share(400)), task(share(400)), task(share(900), { atMs: 30 * 60_000 })],
      {
        injected: [0, 1].map((gpu) => ({
          kind: "gpu_fault" as const,
          atMs: 600_000 + gpu,
          node: 0,
          gpu,
          xid: 79,
          lastsMs: gpu === 0 ? 10 * hour : 1_000,
        })),
      },
    );
    expect(report.ends).toMatchObject({ ok: 3 });
    expect(report.ends["gpu_fault"]).toBeGreaterThanOrEqual(2);
    expect(report.tasks.succeeded).toBe(3);
  });

  test("a share that can be stopped makes room for one that goes before it", () => {
    const long = task(share(600), { runMs: 20 * hour, preemptible: true });
    const stays = task(share(300), { runMs: 20 * hour });
    const short = task(share(700), { atMs: 15 * hour, runMs: 600_000 });
    const report = play("1x T4 x 1 nodes, timeslice", [long, stays, short]);
    expect(report.ends).toEqual({ preempted: 1, ok: 3 });
    expect(report.preemptions.gpuHours).toBeCloseTo((0.6 * 10_000) / hour, 9);
  });

  test("openb's shares are shares where the fleet has any, time slices by default", () => {
    const row = { id: "n", cpuMillis: 96_000, memoryMib: 262_144, gpus: 2, model: "T4" };
    expect(openbInventory([row], 0)[0]!.mode).toEqual({ isolation: "timeslice" });
    const pod = { name: "p", cpuMillis: 1, memoryMib: 1, gpus: 1, gpuMilli: 460, models: null };
    const pods = [{ ...pod, createdMs: 0, runMs: 1_000, qos: "LS" }];
    const { tasks, notes } = openbWorkload("o", pods, { ...trainingTrace, shares: true });
    expect(tasks[0]!.demand.part).toEqual(share(460));
    expect(notes.join()).toContain("1 pods take a share");
  });
});

describe("a broken promise stops the run", () => {
  /** Two organisations, one after the other, on the one GPU of a fleet; the second place is spoilt. */
  function spoilt(
    nodes: string,
    of: { part: GpuPart; spoil: (given: MemberPlace) => MemberPlace },
  ) {
    const real = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
    let first: MemberPlace | undefined;
    const planner = {
      plan(...[state, now]: Parameters<typeof real.plan>): Plan {
        if (first === undefined) {
          const plan = real.plan(state, now);
          first = plan.placements[0]?.members[0];
          return plan;
        }
        const [next] = state.tasks;
        const free = { ...real.plan(state, now), placements: [], preemptions: [] };
        if (next === undefined) return free;
        const members = [of.spoil(first)];
        return { ...free, placements: [{ task: next, elements: 1, members }] };
      },
    };
    return play(nodes, [task(of.part, { org: "a" }), task(of.part, { org: "b", atMs: 60_000 })], {
      planner,
    });
  }
  const given = (over: Partial<HeldPart>) => (place: MemberPlace) =>
    ({ ...place, part: { ...place.part, ...over } }) as MemberPlace;

  test.each([
    ["organisations share a GPU in MIG instances only", "timeslice", share(250), given({})],
    ["no GPU is given out beyond what it has", "timeslice", share(600), given({})],
    [
      "a task gets the part of a GPU that it asks for, kept apart as it asks",
      "timeslice",
      share(250),
      given({ grade: "dmem_mps" }),
    ],
    [
      "no GPU is leased twice",
      "mig h100-80",
      instance("1g.10gb"),
      ({ node, gpus }: MemberPlace) => ({ node, gpus }),
    ],
    [
      "MIG instances lie where they may and never overlap",
      "mig h100-80",
      instance("3g.40gb"),
      given({}),
    ],
    [
      "MIG instances lie where they may and never overlap",
      "mig h100-80",
      instance("3g.40gb"),
      given({ starts: [2] }),
    ],
  ])("%s (%s)", (promise, mode, part, spoil) => {
    let thrown: unknown;
    try {
      spoilt(`1x H100 x 1 nodes, ${mode}`, { part, spoil });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(BrokenPromise);
    expect(thrown).toMatchObject({ promise });
  });
});

function campaign(seed: number): Scenario {
  const nodes = fleet(
    "2x T4 x 4 nodes, timeslice; 2x A10 x 2 nodes, dmem_mps; 2x H100 x 2 nodes, mig h100-80; 2x H100 x 2 nodes",
  );
  const drawn = drawLoad({
    ...usualLoad,
    tasks: 150,
    weights: [1, 2, 3],
    load: 0.9,
    arrayMilli: 40,
    sharesMilli: 500,
    instancesMilli: 300,
    geometry: "h100-80",
    fleetGpus: 20,
    gpusPerNode: 2,
    seed,
  });
  const limited = { org: "tenant-c", weight: 3, limitGpus: 8, guaranteedGpus: 2 };
  const queues = [...drawn.queues.slice(0, 2), limited];
  const faults = {
    ...noFaults,
    nodeMtbfMs: 20 * hour,
    nodeMttrMs: 1_200_000,
    gpuMtbfMs: 200 * hour,
    gpuMttrMs: hour,
    drainMtbfMs: 30 * hour,
    drainMs: 1_200_000,
  };
  return { nodes, workload: { ...drawn, queues }, seed, faults };
}

describe("campaigns of faults on a fleet that shares its GPUs", () => {
  test("no promise is broken, every task ends once, GPU time adds up", () => {
    let faults = 0;
    let preempted = 0;
    let parts = 0;
    for (let seed = 1; seed <= 25; seed++) {
      const scenario = campaign(seed);
      const report = simulate(scenario, policy);
      const { succeeded, failed, waiting } = report.tasks;
      expect({ seed, waiting }).toEqual({ seed, waiting: {} });
      expect(succeeded + failed).toBe(scenario.workload.tasks.length);
      const held = Object.values(report.gpuHours).reduce((sum, hours) => sum + hours, 0);
      const byTenant = report.tenants.reduce((sum, tenant) => sum + tenant.gpuHours, 0);
      expect(held).toBeCloseTo(byTenant, 6);
      faults += Object.values(report.faults).reduce((sum, count) => sum + count, 0);
      preempted += report.preemptions.count;
      parts += scenario.workload.tasks.filter(({ demand }) => demand.part !== undefined).length;
    }
    expect(faults).toBeGreaterThan(100);
    expect(preempted).toBeGreaterThan(30);
    expect(parts).toBeGreaterThan(1_000);
  }, 240_000);

  test("the same seed gives the same report, byte for byte", () => {
    const bytes = (seed: number): string => JSON.stringify(simulate(campaign(seed), policy));
    expect(bytes(5)).toBe(bytes(5));
    expect(bytes(5)).not.toBe(bytes(6));
  });
});
