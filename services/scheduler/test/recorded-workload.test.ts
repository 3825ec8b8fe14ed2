import type { PlanState } from "@fastgpu/scheduling/plan";
import { FrameReader, FrameWriter } from "@fastgpu/scheduling/recording/frames";
import { plannerOf } from "@fastgpu/scheduling/recording/replay";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { drawLoad, usualLoad } from "@fastgpu/simulation/fleet/load";
import { parseInventory } from "@fastgpu/simulation/fleet/inventory";
import { simulate } from "@fastgpu/simulation/fleet/simulate";
import {
  byArrival,
  plainDemand,
  plainFleetTask,
  type FleetTask,
  type FleetWorkload,
} from "@fastgpu/simulation/fleet/workload";
import { expect, test } from "vitest";
import { Observer } from "../src/replay/observed.ts";
import { scenarioOf } from "../src/replay/workload.ts";

const policy = defaultSchedulingPolicy;
const startMs = 1_790_000_000_000;

/** A task's id from a number. */
const idOf = (prefix: string, at: number): string => `${prefix}-${String(at).padStart(26, "0")}`;

function task(at: number, over: Partial<FleetTask> = {}): FleetTask {
  return {
    ...plainFleetTask,
    name: idOf("task", at),
    atMs: startMs + at * 60_000,
    org: idOf("org", 1 + (at % 2)),
    project: idOf("proj", 1 + (at % 2)),
    runMs: 300_000 + at * 10_000,
    demand: { ...plainDemand, gpuCount: 1 + (at % 3) },
    ...over,
  };
}

/** Plays a load on a simulated fleet, and reads it back from the recording of its planner. */
function recorded(
  tasks: readonly FleetTask[],
  fleet = "4x H100 x 4 nodes, racks of 2",
  reservations: FleetWorkload["reservations"] = [],
) {
  const inventory = parseInventory(fleet);
  if (inventory.kind === "bad") throw new Error(inventory.problem);
  const workload: FleetWorkload = {
    ...{ name: "load", tasks: byArrival(tasks), queues: [], reservations, notes: [] },
  };
  const beginning = { policy, seed: 1, learned: undefined };
  const planner = plannerOf(beginning);
  const writer = new FrameWriter();
  const observer = new Observer();
  const reader = new FrameReader();
  observer.see(reader.read(writer.beginning(beginning)));
  const recording = {
    plan(state: PlanState, nowMs: number) {
      const plan = planner.plan(state, nowMs);
      // The simulator's leases tell their newest checkpoint whenever they are asked: a recording keeps what was told.
      observer.see(reader.read(writer.cycle(structuredClone(state), nowMs, plan)));
      return plan;
    },
  };
  const scenario = { nodes: inventory.nodes, workload, seed: 1, settings: { cycleMs: 1_000 } };
  const report = simulate({ ...scenario, planner: recording }, { name: "recorded", policy });
  return { observer, report, scenario };
}

/** Waits for ever: as long as something does, the simulator plans at every change, as the service always does. */
const patient = task(999, { atMs: startMs, demand: { ...plainDemand, gpuCount: 64 } });

test("the load that a recording shows is the one that was there", () => {
  const tasks = Array.from({ length: 60 }, (_, at) => task(at));
  const { observer } = recorded([patient, ...tasks]);
  const { workload, nodes, faults } = scenarioOf(observer);
  expect(nodes).toHaveLength(4);
  expect(nodes[0]).toMatchObject({ model: "H100", gpus: 4, rack: "rack-0-0" });
  expect(faults).toEqual([]);
  const byName = new Map(workload.tasks.map((each) => [each.name, each]));
  for (const given of tasks) {
    const read = byName.get(given.name);
    expect(read).toMatchObject({
      ...{ atMs: given.atMs, org: given.org, project: given.project },
      ...{ demand: given.demand, replicas: given.replicas, priority: given.priority },
    });
    // An end is seen with the next state: the run times are right to the time between two plans,
    // and a plan comes a second after an end at the latest.
    expect(Math.abs((read?.runMs ?? 0) - given.runMs)).toBeLessThanOrEqual(1_000);
  }
  expect(workload.notes).toEqual([
    "1 tasks still waited at the end: taken to run for the median of the others.",
  ]);
});

test("preempted tasks have the run time of all their attempts, restores included; arrays that of an element", () => {
  const { tasks } = drawLoad({
    ...{ ...usualLoad, tasks: 150, weights: [1, 1], load: 1.4, medianMs: 3_600_000 },
    ...{ preemptibleMilli: 1_000, gangMilli: 100, arrayMilli: 50, failingMilli: 0 },
    ...{ fleetGpus: 16, gpusPerNode: 4, seed: 3 },
  });
  const named = tasks.map((each, at) => ({ ...each, name: idOf("task", at + 1) }));
  const { observer } = recorded([{ ...patient, atMs: 0 }, ...named], "4x H100 x 4 nodes");
  const { workload } = scenarioOf(observer);
  const hours = (of: readonly FleetTask[]): number =>
    of.reduce(
      (sum, { runMs, replicas, demand, array }) =>
        sum + (runMs * replicas * demand.gpuCount * (array?.elements ?? 1)) / 3_600_000,
      0,
    );
  const ratio = hours(workload.tasks.filter(({ name }) => name !== patient.name)) / hours(named);
  expect(workload.tasks).toHaveLength(named.length + 1);
  expect(ratio).toBeGreaterThan(0.98);
  expect(ratio).toBeLessThan(1.02);
  // Thousands of plans: longer than other tests on a busy machine.
}, 180_000);

test("a reservation that was over before the end is played again", () => {
  const kept = {
    ...{ name: idOf("resv", 1), org: idOf("org", 1), project: undefined, gpus: 12 },
    ...{ models: ["H100"], startMs: startMs + 1_800_000, endMs: startMs + 3_600_000 },
  };
  const { observer } = recorded(
    [patient, ...Array.from({ length: 90 }, (_, at) => task(at))],
    undefined,
    [kept],
  );
  expect(observer.state?.reservations).toEqual([]);
  expect(scenarioOf(observer).workload.reservations).toEqual([kept]);
});
