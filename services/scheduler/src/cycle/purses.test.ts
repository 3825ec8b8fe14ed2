import { type OrgId, newId } from "@fastgpu/domain/ids";
import { quiet } from "@fastgpu/testkit/log";
import { plainTask, type PlanTask } from "@fastgpu/scheduling/plan";
import { expect, test } from "vitest";
import { createPurses } from "./purses.ts";

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

/** Billing by which a GPU costs 10 and an organisation has what the test says; `reads` are told. */
function money(of: Map<OrgId, bigint>) {
  const told = { reads: 0, away: false };
  const purses = createPurses(
    {
      available: (org) => {
        told.reads += 1;
        return told.away ? Promise.reject(new Error("away")) : Promise.resolve(of.get(org) ?? 0n);
      },
      leastCosts: () => Promise.resolve(({ demand }) => BigInt(10 * demand.gpuCount)),
    },
    quiet,
  );
  return { told, purses };
}

const why = (...tasks: readonly PlanTask[]) => new Map(tasks.map(({ id }) => [id, "no money"]));

test("of an organisation that was refused a hold every task rests that costs more than is left, until there is more", async () => {
  const [org, other] = [newId("org", 1, bytes(1)), newId("org", 1, bytes(2))];
  const [dear, dearToo, cheap, free] = [aTask(org, 4), aTask(org, 3), aTask(org, 1), aTask(org, 0)];
  const theirs = aTask(other, 4);
  const later = { ...aTask(org, 4), notBeforeMs: 60_000 };
  const tasks = [dear, dearToo, cheap, free, theirs, later];
  const left = new Map([[org, 20n]]);
  const { told, purses } = money(left);
  expect(await purses.split(tasks, 0)).toEqual({ solvent: tasks, resting: new Map() });
  expect((await purses.split(tasks, 0)).solvent).toBe(tasks);
  expect(told.reads).toBe(0);

  expect(purses.refused(tasks, why(dear), 1_000)).toBe(true);
  const { solvent, resting } = await purses.split(tasks, 1_000);
  expect(solvent).toEqual([cheap, free, theirs, later]);
  expect([...resting.keys()]).toEqual([dear.id, dearToo.id]);
  await purses.split(tasks, 2_900);
  expect(told.reads).toBe(1);
  expect((await purses.split(tasks, 9_000)).solvent).toEqual([cheap, free, theirs, later]);

  left.set(org, 30n);
  expect((await purses.split(tasks, 11_000)).solvent).toEqual([
    ...[dearToo, cheap, free, theirs, later],
  ]);
  left.set(org, 40n);
  expect((await purses.split(tasks, 13_000)).solvent).toBe(tasks);
  const { reads } = told;
  await purses.split(tasks, 20_000);
  expect(told.reads).toBe(reads);
});

test("a task that was refused although the cheapest GPUs were paid for rests for five seconds", async () => {
  const org = newId("org", 1, bytes(1));
  const [one, two] = [aTask(org, 1), aTask(org, 1)];
  const { purses } = money(new Map([[org, 15n]]));
  expect(purses.nextMs()).toBe(Number.POSITIVE_INFINITY);
  expect(purses.refused([one, two], why(one), 1_000)).toBe(true);
  expect(purses.refused([one, two], why(one), 3_000)).toBe(false);
  expect(purses.nextMs()).toBe(6_000);
  expect(await purses.split([one, two], 5_999)).toEqual({ solvent: [two], resting: why(one) });
  expect((await purses.split([one, two], 6_000)).solvent).toEqual([one, two]);
});

test("while billing does not answer those rest that were refused", async () => {
  const org = newId("org", 1, bytes(1));
  const [one, two] = [aTask(org, 1), aTask(org, 1)];
  const { told, purses } = money(new Map());
  told.away = true;
  purses.refused([one], why(one), 0);
  expect(await purses.split([one, two], 0)).toEqual({ solvent: [two], resting: why(one) });
  await purses.split([one, two], 1_000);
  expect(told.reads).toBe(1);
  told.away = false;
  expect((await purses.split([one, two], 2_000)).solvent).toEqual([]);
});
