import type { NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { plainTask, type PlanNode, type PlanState, type PlanTask } from "./plan.ts";
import { createPlanner, type Planner } from "./planner.ts";
import { defaultSchedulingPolicy } from "./scheduling-policy.ts";

const node: PlanNode = {
  id: "node-a" as NodeId,
  name: "a",
  acceptsWork: true,
  runtimes: ["process"],
  cpuMillis: 1_000_000,
  memoryMib: 1_000_000,
  diskMib: 1_000_000,
  gpus: [],
  topology: {},
  running: [],
};

function task(id: string, cpuMillis: number): PlanTask {
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: "org-a" as OrgId,
    project: "proj-a" as ProjectId,
    epoch: 0,
    priority: 0,
    submittedMs: 0,
    notBeforeMs: 0,
    demand: {
      runtime: "process",
      gpuCount: 0,
      gpuModels: [],
      gpuMinMemoryMib: 0,
      simulatedOk: true,
      cpuMillis,
      memoryMib: 10,
      diskMib: 0,
    },
    stopGraceMs: 0,
    excludedGpus: [],
    array: undefined,
  };
}

const state = (...tasks: PlanTask[]): PlanState => ({
  nodes: [node],
  tasks,
  queues: [],
  usage: [],
  reservations: [],
});

const counts = (planner: Planner): readonly (readonly [number, number])[] =>
  planner.learned().mix.classes.map(({ request, count }) => [request.cpuMillis, count] as const);

const policy = defaultSchedulingPolicy;
const rng = () => 0.5;

test("another placement policy goes on from the arrivals that were learned", () => {
  const planner = createPlanner({ policy, rng });
  planner.plan(state(task("1", 100), task("2", 100), task("3", 200)), 0);
  planner.setPolicy({ ...policy, placement: "fgd" });
  // The classes come in the other order now: they must still be counted as what they are.
  planner.plan(state(task("4", 200), task("5", 100)), 1);
  expect(counts(planner)).toEqual([
    [100, 3],
    [200, 2],
  ]);
});

test("a planner that is given what another learned counts each task once over both lives", () => {
  const first = createPlanner({ policy, rng });
  first.plan(state(task("1", 100), task("2", 200)), 0);
  const learned = structuredClone(first.learned());
  const second = createPlanner({ policy, rng, learned });
  expect(second.learned()).toEqual(learned);
  second.plan(state(task("2", 200), task("3", 200)), 1);
  expect(counts(second)).toEqual([
    [100, 1],
    [200, 2],
  ]);
  expect(second.learned().mix).toMatchObject({ arrivals: 3, total: 3 });
});
