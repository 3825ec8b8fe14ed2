import { type OrgId, newId } from "@fastgpu/domain/ids";
import { plainTask, type PlanTask } from "@fastgpu/scheduling/plan";
import { expect, test } from "vitest";
import { createPoor } from "./poor.ts";

const bytes = (seed: number) => new Uint8Array(10).fill(seed);
let made = 0;

function aTask(org: OrgId, gpuCount: number): PlanTask {
  made += 1;
  return {
    ...plainTask,
    ...{ id: newId("task", 1, bytes(made)), org, project: newId("proj", 1, bytes(9)) },
    ...{
      user: "key-1",
      submittedMs: made,
      stopGraceMs: 0,
      epoch: 0,
      priority: 0,
      notBeforeMs: 0,
      excludedGpus: [],
      array: undefined,
    },
    demand: {
      ...{ runtime: "process", gpuCount, gpuModels: [], gpuMinMemoryMib: 0, simulatedOk: true },
      ...{ cpuMillis: 1, memoryMib: 1, diskMib: 0 },
    },
  };
}

const state = (tasks: readonly PlanTask[]) => ({
  ...{ nodes: [], tasks, queues: [], usage: [], reservations: [] },
});

test("who cannot pay rests for five seconds; after three of an organisation all its others with GPUs do", () => {
  const [org, other] = [newId("org", 1, bytes(1)), newId("org", 1, bytes(2))];
  const tasks = Array.from({ length: 5 }, () => aTask(org, 1));
  const [free, rich] = [aTask(org, 0), aTask(other, 1)];
  const all = state([...tasks, free, rich]);
  const poor = createPoor();
  expect(poor.without(all, 0)).toBe(all);
  expect(poor.nextMs()).toBe(Number.POSITIVE_INFINITY);

  expect(poor.note(tasks.slice(0, 2), 1_000)).toBe(true);
  expect(poor.note(tasks.slice(0, 1), 2_000)).toBe(false);
  expect(poor.nextMs()).toBe(6_000);
  expect(poor.without(all, 2_000).tasks).toEqual([...tasks.slice(2), free, rich]);

  expect(poor.note(tasks.slice(2, 3), 3_000)).toBe(true);
  expect(poor.without(all, 3_000).tasks).toEqual([free, rich]);
  expect(poor.without(all, 6_000).tasks).toEqual([
    ...tasks.filter((_, at) => at !== 2),
    free,
    rich,
  ]);
  expect(poor.without(all, 8_000)).toBe(all);
});
