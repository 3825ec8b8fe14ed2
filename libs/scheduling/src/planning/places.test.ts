import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { explainTask } from "../explain/explain.ts";
import { withLease } from "../explain/lease.ts";
import type { PlanNode, PlanReservation, PlanState } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { reservable } from "../reservable.ts";
import { World } from "../scene-world.ts";
import { aNode, aState, aTask } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";

const hour = 3_600_000;
const minute = 60_000;
const begins = 10 * hour;

const reservation = (over: Partial<PlanReservation> = {}): PlanReservation => ({
  ...{ id: "resv-1", org: "org-a" as OrgId, project: "proj-x" as ProjectId, gpus: 4, perNode: 2 },
  ...{ models: [], startMs: begins, endMs: 20 * hour, ...over },
});

const work = fc.record({
  owner: fc.constantFrom("b/y", "b/z", "c/w", "a/other"),
  atHours: fc.integer({ min: 0, max: 10 }),
  hours: fc.integer({ min: 1, max: 20 }),
  tenths: fc.integer({ min: 1, max: 10 }),
  gpuCount: fc.constantFrom(1, 1, 1, 2, 3, 4),
  replicas: fc.constantFrom(1, 1, 1, 2),
  gpuModels: fc.constantFrom<string[]>([], [], ["A100"], ["H100", "A100"]),
  preemptible: fc.boolean(),
  priority: fc.integer({ min: 0, max: 2 }),
});

/** Fleets of some models, work of others, and what else is reserved. */
const scene = fc.record({
  nodes: fc.array(
    fc.record({ gpus: fc.integer({ min: 1, max: 8 }), model: fc.constantFrom("A100", "H100") }),
    { minLength: 2, maxLength: 6, size: "max" },
  ),
  works: fc.array(work, { maxLength: 40, size: "max" }),
  perNode: fc.constantFrom(2, 3, 4, 4, 8),
  count: fc.integer({ min: 1, max: 3 }),
  models: fc.constantFrom<string[]>([], ["A100"], ["A100", "H100"]),
  /** Another one, of others, at about the same time. */
  beside: fc.option(
    fc.record({
      gpus: fc.integer({ min: 1, max: 4 }),
      perNode: fc.constantFrom(undefined, 1, 2, 4),
      fromHours: fc.integer({ min: 5, max: 12 }),
    }),
    { nil: undefined },
  ),
});
type Scene = typeof scene extends fc.Arbitrary<infer S> ? S : never;

/** Plays the load up to the beginning, and then the gang that the reservation was made for. */
function play(of: Scene, kept: PlanReservation, other: PlanReservation | undefined) {
  const world = new World(of.nodes.map(({ gpus, model }, at) => aNode(`n${at}`, gpus, { model })));
  const { count, perNode } = of;
  world.reservations = other === undefined ? [kept] : [kept, other];
  let held = 0;
  for (let at = 0; at < 10; at++) {
    world.advance(at * hour);
    for (const [index, each] of of.works.entries()) {
      if (each.atHours !== at) continue;
      const { owner, hours, tenths, gpuCount, replicas, gpuModels, ...rest } = each;
      // Not to the minute: who would end just in time comes too late once somebody has had to stop for it.
      const maxRuntimeMs = hours * hour - 10 * minute;
      const demand = { gpuCount, gpuModels };
      const task = aTask(`t${index}`, {
        ...{ owner, demand, replicas, maxRuntimeMs, submittedMs: at * hour, ...rest },
      });
      world.submit({ task, runMs: (maxRuntimeMs * tenths) / 10 });
    }
    // As soon as those have stopped who had to, whoever they stopped for is looked at.
    for (let minutes = 1; world.turn().preemptions.length > 0; minutes++) {
      if (minutes > 30) throw new Error("stops go on");
      world.advance(at * hour + minutes * minute);
    }
    held = world.running.size;
  }
  world.advance(begins);
  const gang = aTask("gang", {
    ...{ owner: "a/x", replicas: count, submittedMs: begins },
    ...{ demand: { gpuCount: perNode, gpuModels: [...of.models] }, maxRuntimeMs: 5 * hour },
  });
  world.submit({ task: gang, runMs: 5 * hour });
  // Whoever gives way stops; what was kept for who came too late for it is given back.
  for (const minutes of [0, 1, 2, 3]) {
    world.advance(begins + minutes * minute);
    world.turn();
  }
  return { world, held, startedMs: world.started.get(gang.id) };
}

/** Whether there is room for both reservations, the other one first. */
function fits({ nodes, beside }: Scene, kept: PlanReservation, other: PlanReservation | undefined) {
  const fleet = nodes.map(({ gpus, model }) => new Map([[model, gpus]]));
  if (beside !== undefined && beside.gpus % (beside.perNode ?? 1) !== 0) return false;
  if (other !== undefined && reservable(other, [], fleet).gpus < other.gpus) return false;
  return reservable(kept, other === undefined ? [] : [other], fleet).gpus >= kept.gpus;
}

describe("a reservation of so many GPUs on one node each, known in time,", () => {
  test("is what a gang of its owner's starts on when it begins, whatever others run", () => {
    const seen = { gangs: 0, others: 0, beside: 0, stopped: 0, scattered: 0 };
    const promise = fc.property(scene, (of) => {
      const { perNode, count, models, beside } = of;
      const kept = reservation({ gpus: perNode * count, perNode, models });
      const other = beside && {
        ...{ id: "resv-2", org: "org-b" as OrgId, project: undefined, models: [], ...beside },
        ...{ startMs: beside.fromHours * hour, endMs: 30 * hour },
      };
      fc.pre(fits(of, kept, other));
      const { world, held, startedMs } = play(of, kept, other);
      if (other !== undefined) seen.others++;
      if (other !== undefined && other.startMs <= begins) {
        // And the other one has its GPUs too: nobody else who cannot be stopped is on them.
        const firm = [...world.running.values()].flatMap(({ work: { task } }) =>
          task.preemptible || task.org === other.org || String(task.id) === "task-gang"
            ? []
            : [task],
        );
        const gpus = firm.reduce((sum, task) => sum + task.demand.gpuCount * task.replicas, 0);
        const all = of.nodes.reduce((sum, node) => sum + node.gpus, 0);
        expect(gpus).toBeLessThanOrEqual(all - kept.gpus - other.gpus);
      }
      expect(startedMs).toBeLessThanOrEqual(begins + 3 * minute);
      seen.gangs++;
      if (held > 2) seen.beside++;
      if (world.preempted.some(({ atMs }) => atMs === begins)) seen.stopped++;
      // As many GPUs wherever they lie would not always have done.
      const anywhere = play(of, { ...kept, perNode: undefined }, other);
      if (!(anywhere.startedMs! <= begins + 3 * minute)) seen.scattered++;
    });
    fc.assert(promise, { numRuns: 50, endOnFailure: true });
    expectSeen(seen.gangs, 40, "gangs");
    expectSeen(seen.others, 10, "gangs beside another reservation");
    expectSeen(seen.beside, 25, "gangs beside much other work");
    expectSeen(seen.stopped, 5, "gangs for which others were stopped");
    expectSeen(seen.scattered, 3, "gangs that would not have started on any GPUs");
  });

  const two = [aNode("m", 2), aNode("n", 2)];
  const single = (id: string, over: Parameters<typeof aTask>[1] = {}) =>
    aTask(id, { owner: "b/y", maxRuntimeMs: 30 * hour, ...over });
  const plan = (of: Partial<PlanState> & Pick<PlanState, "nodes" | "tasks">, nowMs = 0) =>
    createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 }).plan(aState(of), nowMs);
  const whole = reservation({ gpus: 2 });

  test("keeps a node whole from what cannot be stopped and may outlast the beginning, and says so", () => {
    const spread = { replicas: 2, topology: { spreadOver: "node" as const } };
    const { placements, reasons, starts } = plan({
      ...{ nodes: two, tasks: [single("t", spread)], reservations: [whole] },
    });
    expect(placements).toEqual([]);
    expect(reasons.get("task-t" as TaskId)?.message).toContain(
      "reserved for a time that it might still run in (a reservation of another organisation)",
    );
    expect(starts.size).toBe(0);
    // As many GPUs anywhere would leave it room.
    const anywhere = [{ ...whole, perNode: undefined }];
    const tasks = [single("t", spread)];
    expect(plan({ nodes: two, tasks, reservations: anywhere }).placements).toHaveLength(1);
  });

  test.each([
    ["what ends in time", { maxRuntimeMs: 9 * hour }, 1],
    ["what gives way", { preemptible: true }, 1],
    ["what was stopped too often to be lent anything", { preemptible: true, preemptions: 9 }, 0],
    ["its owner's own tasks", { owner: "a/x" }, 1],
    ["tasks of another project of the organisation", { owner: "a/other" }, 0],
  ])("leaves the whole node to %s or not", (_what, over, started) => {
    const tasks = [single("t", { demand: { gpuCount: 2 }, ...over })];
    const nodes = [aNode("n", 2), aNode("small", 1)];
    expect(plan({ nodes, tasks, reservations: [whole] }).placements).toHaveLength(started);
  });

  test("keeps no more than its owner does not hold already, on its nodes or elsewhere", () => {
    const own = (gpus: number, on: number) =>
      [0, 1, 2].map((n) => {
        const node = aNode(`n${n}`, 2);
        if (n !== on) return node;
        const task = aTask("own", { owner: "a/x", demand: { gpuCount: gpus } });
        const at = { gpus: node.gpus.slice(0, gpus).map(({ id }) => id), nowMs: 0 };
        return withLease(node, task, { ...at, attempt: "att-own" as AttemptId });
      });
    const tasks = Array.from({ length: 6 }, (_, at) => single(`t${at}`));
    const started = (nodes: readonly PlanNode[]) =>
      plan({ nodes, tasks, reservations: [reservation()] }, 11 * hour).placements.length;
    expect(started(own(0, 0))).toBe(2);
    // One node whole, and the rest of the owner's own; the third is anybody's.
    expect(started(own(1, 1))).toBe(2);
    expect(started(own(2, 1))).toBe(2);
  });

  test("is told to who waits for it, with what would help", () => {
    const task = single("t", { replicas: 2, topology: { spreadOver: "node" } });
    const told = explainTask({
      state: aState({ nodes: two, tasks: [task], reservations: [whole] }),
      ...{ task, nowMs: 0, policy: defaultSchedulingPolicy, rng: () => 0.5 },
      longest: {
        endMs: ({ endsByMs }) => endsByMs,
        runMs: ({ maxRuntimeMs }) => maxRuntimeMs,
        stopMs: () => 0,
      },
    });
    expect(told.reservation?.id).toBe("resv-1");
    const fields = told.remedies.flatMap((each) => (each.kind === "change" ? each.fields : []));
    expect(fields).toContain("maxRuntimeMs");
    expect(fields).toContain("preemptible");
  });
});
