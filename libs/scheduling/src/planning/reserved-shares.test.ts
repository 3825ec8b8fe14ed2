import type { OrgId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GpuPart, PlanTask } from "../plan.ts";
import { World } from "../scene-world.ts";
import { aNode, aTask } from "../scene.ts";

const hour = 3_600_000;
const minute = 60_000;
const orgA = "org-a" as OrgId;
const mode = { isolation: "timeslice" } as const;
const share = (milli: number): GpuPart => ({ kind: "share", milli, weakest: "timeslice" });
const reservation = (gpus: number) => ({
  ...{ id: "resv-1", org: orgA, project: undefined, gpus, models: [] },
  ...{ startMs: 10 * hour, endMs: 20 * hour },
});

test("shares of others leave as many whole GPUs as are reserved, and go beside one another", () => {
  const arbitrary = fc.record({
    reserved: fc.integer({ min: 1, max: 5 }),
    works: fc.array(
      fc.record({
        owner: fc.constantFrom("a/x", "b/z", "b/z", "c/w"),
        atHours: fc.integer({ min: 0, max: 18 }),
        hours: fc.integer({ min: 1, max: 12 }),
        tenths: fc.integer({ min: 1, max: 10 }),
        milli: fc.constantFrom(undefined, 100, 300, 500, 700),
        preemptible: fc.boolean(),
      }),
      { maxLength: 25, size: "max" },
    ),
  });
  let [beside, stopped] = [0, 0];
  fc.assert(
    fc.property(arbitrary, ({ reserved, works }) => {
      const world = new World([aNode("n", 4, { mode }), aNode("m", 2, { mode })]);
      world.reservations = [reservation(reserved)];
      for (let at = 0; at < 20; at++) {
        world.advance(at * hour);
        for (const [n, { owner, atHours, hours, tenths, milli, preemptible }] of works.entries()) {
          if (atHours !== at) continue;
          const maxRuntimeMs = hours * hour;
          // Its owner asks for whole GPUs.
          const part = milli === undefined || owner === "a/x" ? {} : { part: share(milli) };
          const of = { owner, preemptible, maxRuntimeMs, submittedMs: at * hour, demand: part };
          world.submit({ task: aTask(`t${n}`, of), runMs: (maxRuntimeMs * tenths) / 10 });
        }
        const plan = world.turn();
        if (at < 10) continue;
        const gpus = [...world.nodes.values()].flatMap((node) =>
          node.gpus.map(({ id }) => node.running.filter((lease) => lease.gpus.includes(id))),
        );
        const ofOthers = gpus.map((leases) => leases.filter(({ org }) => org !== orgA));
        const firm = ofOthers.map((leases) => leases.filter(({ preemptible }) => !preemptible));
        expect(firm.filter((leases) => leases.length === 0).length).toBeGreaterThanOrEqual(
          reserved,
        );
        if (firm.some((leases) => leases.length > 1)) beside++;
        stopped += plan.preemptions.length;
        world.advance(at * hour + minute);
        world.turn();
        const own = [...world.running.values()].filter(({ work }) => work.task.org === orgA);
        const waits = [...world.waiting.values()].some(({ task }) => task.org === orgA);
        if (waits) expect(own.length).toBeGreaterThanOrEqual(reserved);
      }
    }),
    { numRuns: 100 },
  );
  expectSeen(beside, 0, "beside");
  expectSeen(stopped, 0, "stopped");
});

test("a share starts where it breaks no GPU that is kept, and waits where it would", () => {
  const world = new World([aNode("n", 2, { mode })]);
  world.reservations = [reservation(1)];
  const of = (id: string, milli: number): { task: PlanTask; runMs: number } => ({
    task: aTask(id, { owner: "b/z", maxRuntimeMs: 30 * hour, demand: { part: share(milli) } }),
    runMs: 30 * hour,
  });
  world.submit(of("t1", 300), of("t2", 300), of("t3", 300), of("t4", 300));
  const { reasons } = world.turn();
  const nodes = [...world.nodes.values()];
  const used = new Set(nodes.flatMap(({ running }) => running.flatMap(({ gpus }) => gpus)));
  expect([world.running.size, used.size]).toEqual([3, 1]);
  expect([...reasons.values()]).toHaveLength(1);
});
