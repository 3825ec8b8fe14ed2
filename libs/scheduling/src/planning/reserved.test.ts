import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { withLease, withStopping } from "../explain/lease.ts";
import type { PlanNode, PlanReservation, PlanState, PlanTask } from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { World } from "../scene-world.ts";
import { aNode, aQueue, aState, aTask, gpuId } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";

const hour = 3_600_000;
const minute = 60_000;
const orgA = "org-a" as OrgId;

const reservation = (over: Partial<PlanReservation> = {}): PlanReservation => ({
  ...{ id: "resv-1", org: orgA, project: undefined, gpus: 2, models: [] },
  ...{ startMs: 10 * hour, endMs: 20 * hour, ...over },
});
const planAt = (nowMs: number, of: Parameters<typeof aState>[0]) =>
  createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 }).plan(aState(of), nowMs);

/** The node with a task on some of its GPUs since a time. */
function running(
  node: PlanNode,
  task: PlanTask,
  at: { gpus: readonly number[]; sinceMs: number; stopping?: boolean },
): PlanNode {
  const gpus = at.gpus.map((position) => gpuId(node.name, position));
  const attempt = task.id.replace("task-", "att-") as AttemptId;
  const held = withLease(node, task, { gpus, nowMs: at.sinceMs, attempt });
  if (at.stopping !== true) return held;
  const reservedFor = undefined as unknown as TaskId;
  return withStopping(held, attempt, { endsByMs: at.sinceMs + 1, gpus: [], reservedFor });
}

/** What holds one or two GPUs of a node when the reservation begins. */
const arbitraryHolder = fc.record({
  gpus: fc.constantFrom(0, 1, 2),
  kind: fc.constantFrom("preemptible", "stopping", "for good"),
  owner: fc.constantFrom("a/x", "b/y", "b/z", "c/w"),
  /** Also what has only just begun, and what was stopped often. */
  ranMs: fc.constantFrom(0, minute, 3 * hour),
  preemptions: fc.constantFrom(0, 9),
});

const arbitraryBeginning = fc.record({
  nodes: fc.array(fc.array(arbitraryHolder, { minLength: 1, maxLength: 4 }), {
    minLength: 1,
    maxLength: 4,
  }),
  reserved: fc.integer({ min: 1, max: 10 }),
  wanted: fc.integer({ min: 1, max: 10 }),
  others: fc.integer({ min: 0, max: 4 }),
  guaranteed: fc.integer({ min: 0, max: 3 }),
});

/** The fleet at the beginning: GPUs that are idle, or held by others who can be stopped or stop already; own ones. */
function beginning(of: typeof arbitraryBeginning extends fc.Arbitrary<infer B> ? B : never) {
  const nowMs = 10 * hour;
  let within = 0;
  let own = 0;
  const nodes = of.nodes.map((holders, n) => {
    let node = aNode(`n${n}`, holders.length * 2);
    for (const [at, { gpus, kind, owner, ranMs, preemptions }] of holders.entries()) {
      const preemptible = kind === "preemptible";
      const task = aTask(`r${n}-${at}`, { owner, preemptible, preemptions });
      const held = Array.from({ length: gpus }, (_, i) => at * 2 + i);
      const stopping = kind === "stopping";
      if (gpus > 0) {
        node = running(node, task, { gpus: held, sinceMs: nowMs - ranMs, stopping });
      }
      within += 2 - gpus;
      if (kind !== "for good" && (owner !== "a/x" || stopping)) within += gpus;
      if (owner === "a/x") own += gpus;
    }
    return node;
  });
  const tasks = [
    ...Array.from({ length: of.wanted }, (_, at) => aTask(`own${at}`, { submittedMs: at })),
    // Older, and of an organisation with a guarantee.
    ...Array.from({ length: of.others }, (_, at) => aTask(`other${at}`, { owner: "b/y" })),
  ];
  const queues = [aQueue("b", { guaranteedGpus: of.guaranteed })];
  const state: PlanState = aState({
    ...{ nodes, tasks, queues },
    reservations: [reservation({ gpus: of.reserved, startMs: nowMs })],
  });
  return { nowMs, state, within, own };
}

describe("when a reservation begins", () => {
  test("its owner gets the GPUs as far as they are idle, held by what can be stopped, or about to be free", () => {
    fc.assert(
      fc.property(arbitraryBeginning, (of) => {
        const { nowMs, state, within, own } = beginning(of);
        const plan = planAt(nowMs, state);
        const got = state.tasks.filter(({ id, org }) => {
          if (org !== orgA) return false;
          const starts = plan.placements.some(({ task }) => task.id === id);
          return starts || plan.reasons.get(id)?.message.startsWith("its place is kept") === true;
        });
        expect(got.length).toBeGreaterThanOrEqual(
          Math.min(of.wanted, Math.max(0, of.reserved - own), within),
        );
        if (own + of.wanted > of.reserved) return;
        // Within the reservation nobody stops another for it.
        const stopped = new Set<string>(plan.preemptions.map(({ victimTask }) => victimTask));
        for (const { org, task } of state.nodes.flatMap((node) => node.running)) {
          if (org === orgA) expect(stopped.has(task)).toBe(false);
        }
      }),
      { numRuns: 300 },
    );
  });

  test("whoever was stopped for it does not come back while it lasts, and nobody is stopped twice", () => {
    const world = new World([aNode("n", 4)]);
    const of = (owner: string, id: string): PlanTask =>
      aTask(id, { owner, preemptible: true, maxRuntimeMs: 30 * hour });
    world.submit(
      ...["b1", "b2", "b3", "b4"].map((id) => ({ task: of("b/y", id), runMs: 30 * hour })),
    );
    world.turn();
    expect(world.running.size).toBe(4);
    // Made when all was taken already, for more than its owner's share.
    world.nowMs = 9 * hour;
    world.queues = [aQueue("b", { weight: 15 })];
    world.reservations = [reservation({ gpus: 3 })];
    world.submit(
      ...["a1", "a2", "a3", "a4"].map((id) => ({ task: of("a/x", id), runMs: 2 * hour })),
    );
    world.turn();
    expect(world.preempted.filter(({ atMs }) => atMs < 10 * hour).length).toBeLessThan(3);
    for (const at of [10 * hour, 10 * hour + minute, 11 * hour]) {
      world.advance(at);
      world.turn();
    }
    const held = [...world.running.values()].map(({ work }) => work.task.org);
    expect(held.filter((org) => org === orgA).length).toBeGreaterThanOrEqual(3);
    const victims = world.preempted.map(({ task }) => task);
    expect(new Set(victims).size).toBe(victims.length);
  });
});

test("known in time, a reservation's GPUs are held by nobody else who cannot be stopped, and its owner has them at once", () => {
  const arbitrary = fc.record({
    reserved: fc.integer({ min: 1, max: 4 }),
    project: fc.constantFrom(undefined, "proj-x" as ProjectId),
    models: fc.constantFrom<string[]>([], ["A100"]),
    works: fc.array(
      fc.record({
        owner: fc.constantFrom("a/x", "a/y", "b/z"),
        atHours: fc.integer({ min: 0, max: 20 }),
        hours: fc.integer({ min: 1, max: 12 }),
        part: fc.integer({ min: 1, max: 4 }),
        gpuCount: fc.constantFrom(1, 2),
        preemptible: fc.boolean(),
        gpuModels: fc.constantFrom<string[]>([], ["A100"], ["H100", "A100"]),
      }),
      { maxLength: 25, size: "max" },
    ),
  });
  let [lent, stopped] = [0, 0];
  fc.assert(
    fc.property(arbitrary, ({ reserved, project, models, works }) => {
      const world = new World([aNode("n", 4), aNode("m", 2), aNode("h", 2, { model: "H100" })]);
      const kept = reservation({ gpus: reserved, project, models });
      world.reservations = [kept];
      const owns = ({ org, project: own }: PlanTask): boolean =>
        org === kept.org && (project === undefined || own === project);
      /** Whether any GPU that may be kept for it will do. */
      const takesAny = (wanted: readonly string[]): boolean =>
        wanted.length === 0 || (models.length > 0 && wanted.includes("A100"));
      const covered = (node: PlanNode): boolean =>
        models.length === 0 || node.gpus.some(({ model }) => models.includes(model));
      const total = models.length === 0 ? 8 : 6;
      const stops = new Set<string>();
      for (let at = 0; at <= 22; at++) {
        world.advance(at * hour);
        for (const [index, work] of works.entries()) {
          if (work.atHours !== at) continue;
          const { owner, hours, part, gpuCount, preemptible, gpuModels } = work;
          const demand = { gpuCount, gpuModels };
          const maxRuntimeMs = hours * hour;
          const task = aTask(`t${index}`, {
            ...{ owner, preemptible, maxRuntimeMs, demand, submittedMs: at * hour },
          });
          world.submit({ task, runMs: (maxRuntimeMs * part) / 4 });
        }
        const ofOwner = new Set(
          [...world.waiting.values()].flatMap(({ task }) => (owns(task) ? [task.id] : [])),
        );
        const plan = world.turn();
        for (const { victimTask, reservedFor } of plan.preemptions) {
          if (!ofOwner.has(reservedFor)) continue;
          // Nobody is stopped twice for the same task.
          expect(stops.has(`${victimTask} ${reservedFor}`)).toBe(false);
          stops.add(`${victimTask} ${reservedFor}`);
          stopped++;
        }
        if (at < 10 || at >= 20) continue;
        const holders = [...world.running.values()]
          .filter(({ stopping, nodes }) => !stopping && covered(world.nodes.get(nodes[0]!)!))
          .map(({ work }) => work.task);
        const sum = (list: readonly PlanTask[]): number =>
          list.reduce((gpus, { demand }) => gpus + demand.gpuCount, 0);
        const others = holders.filter((task) => !owns(task));
        const firm = sum(others.filter(({ preemptible }) => !preemptible));
        expect(firm).toBeLessThanOrEqual(total - reserved);
        if (sum(others) > total - reserved) lent++;
        // What the owner asks for one by one starts, or its place is kept until who gives way has stopped.
        const waiting = [...world.waiting.values()].filter(({ task }) => owns(task));
        const kept = waiting.filter(({ task }) =>
          plan.reasons.get(task.id)?.message.startsWith("its place is kept"),
        );
        const left = waiting.filter(
          ({ task: { id, demand } }) =>
            demand.gpuCount === 1 &&
            takesAny(demand.gpuModels) &&
            kept.every(({ task }) => task.id !== id),
        );
        const own = sum(holders.filter(owns)) + sum(kept.map(({ task }) => task));
        if (left.length > 0) expect(own).toBeGreaterThanOrEqual(reserved);
        world.advance(at * hour + minute);
        world.turn();
        for (const { reservedFor } of plan.preemptions) {
          expect(world.waiting.has(reservedFor)).toBe(false);
        }
      }
    }),
    { numRuns: 100 },
  );
  expectSeen(lent, 10, "lent");
  expectSeen(stopped, 10, "stopped");
});

describe("GPUs that are reserved and idle", () => {
  const long = (id: string, over: Parameters<typeof aTask>[1] = {}): PlanTask =>
    aTask(id, { owner: "b/y", preemptible: true, maxRuntimeMs: 30 * hour, ...over });
  const four = (over: Parameters<typeof aTask>[1] = {}): PlanTask[] =>
    Array.from({ length: 4 }, (_, at) => long(`t${at}`, over));
  const started = (
    nowHours: number,
    tasks: readonly PlanTask[],
    policy = defaultSchedulingPolicy,
  ): number => {
    const state = { nodes: [aNode("n", 4)], tasks, reservations: [reservation({ gpus: 3 })] };
    const planner = createPlanner({ policy, rng: () => 0.5 });
    return planner.plan(aState(state), nowHours * hour).placements.length;
  };

  test.each([
    ["before the beginning", 0],
    ["while it lasts", 12],
  ])("are lent, %s, to what can be stopped", (_when, nowHours) => {
    expect(started(nowHours, four())).toBe(4);
    expect(started(nowHours, four({ preemptible: false }))).toBe(1);
    // Who was stopped too often for what it has run, or where nobody is ever stopped.
    expect(started(nowHours, four({ preemptions: 3 }))).toBe(1);
    expect(started(nowHours, four({ preemptions: 3, attainedGpuMs: 4 * hour }))).toBe(4);
    const preemption = { enabled: false };
    expect(started(nowHours, four(), { ...defaultSchedulingPolicy, preemption })).toBe(1);
  });

  test("are lent whatever of the same project cannot have them, and stands in line before", () => {
    const tasks = [0, 1].flatMap((at) => [
      long(`f${at}`, { preemptible: false }),
      long(`t${at}`, { submittedMs: 1 }),
      long(`s${at}`, { preemptions: 9 }),
    ]);
    const reservations = [reservation({ gpus: 4 })];
    const { placements } = planAt(12 * hour, { nodes: [aNode("n", 4)], tasks, reservations });
    expect(placements.map(({ task }) => task.id)).toEqual(["task-t0", "task-t1"]);
  });

  test("leave what cannot be stopped as much as if nothing were lent", () => {
    let node = aNode("n", 4);
    for (const at of [0, 1]) node = running(node, long(`r${at}`), { gpus: [at], sinceMs: 0 });
    const tasks = four({ preemptible: false });
    const reservations = [reservation({ gpus: 2 })];
    expect(planAt(12 * hour, { nodes: [node], tasks, reservations }).placements).toHaveLength(2);
  });

  test("are promised to nobody else: the promise would end with the loan", () => {
    const busy = running(aNode("n", 1), long("r", { preemptible: false, maxRuntimeMs: hour }), {
      ...{ gpus: [0], sinceMs: 11.5 * hour },
    });
    const task = long("t");
    const plan = planAt(12 * hour, {
      ...{ nodes: [busy], tasks: [task], reservations: [reservation({ gpus: 1 })] },
    });
    expect(plan.starts.has(task.id)).toBe(false);
    const free = planAt(12 * hour, { nodes: [busy], tasks: [task] });
    expect(free.starts.get(task.id)).toBe(12.5 * hour);
  });

  test.each([
    [1, 3],
    [5, 17],
  ])(
    "are lent no more often than the run time makes up for, where their owner comes every %d hours",
    (everyHours, stops) => {
      const world = new World([aNode("n", 1)]);
      world.reservations = [reservation({ gpus: 1, startMs: 0, endMs: 100 * hour })];
      world.submit({ task: long("b", { maxRuntimeMs: 90 * hour }), runMs: 90 * hour });
      for (let at = 0; at < 90; at += everyHours) {
        world.advance(at * hour);
        const task = aTask(`a${at}`, { maxRuntimeMs: minute, submittedMs: at * hour });
        world.submit({ task, runMs: minute });
        world.turn();
        for (const minutes of [1, 3]) {
          world.advance(at * hour + minutes * minute);
          world.turn();
        }
        // Its owner never waits for longer than the stop takes.
        expect(world.started.has(task.id)).toBe(true);
      }
      expect(world.preempted).toHaveLength(stops);
    },
  );
});

describe("several reservations at one time", () => {
  const firm = (id: string, model: string): PlanTask =>
    aTask(id, { owner: "c/w", maxRuntimeMs: 30 * hour, demand: { gpuModels: [model] } });
  const nodes = [
    aNode("x", 2, { model: "A100" }),
    aNode("y", 4, { model: "H100" }),
    aNode("z", 2, { model: "B200" }),
  ];

  test("that share models keep no more than they need together", () => {
    const reservations = [
      reservation({ id: "r1", models: ["A100", "H100"], gpus: 3 }),
      reservation({ id: "r2", org: "org-b" as OrgId, models: ["H100", "B200"], gpus: 3 }),
    ];
    const tasks = ["A100", "H100", "B200"].flatMap((model) =>
      [0, 1].map((at) => firm(`${model}${at}`, model)),
    );
    // Eight GPUs less six; counted apart all four H100 would be kept for both.
    const { placements, reasons } = planAt(0, { nodes, tasks, reservations });
    expect(placements).toHaveLength(2);
    expect([...reasons.values()].every(({ message }) => message.includes("reserved"))).toBe(true);
    const one = planAt(0, { nodes, tasks: tasks.slice(2, 4), reservations });
    expect(one.placements).toHaveLength(2);
  });

  test("of one owner are due to it together", () => {
    let node = aNode("n", 4);
    for (const at of [0, 1, 2, 3]) {
      const task = aTask(`r${at}`, { owner: "b/y", preemptible: true });
      node = running(node, task, { gpus: [at], sinceMs: 10 * hour });
    }
    const reservations = ["r1", "r2"].map((id) => reservation({ id, gpus: 2 }));
    const tasks = Array.from({ length: 4 }, (_, at) => aTask(`a${at}`));
    expect(planAt(10 * hour, { nodes: [node], tasks, reservations }).preemptions).toHaveLength(4);
    // And nobody takes them back.
    let own = aNode("n", 4);
    for (const at of [0, 1, 2, 3]) {
      const task = aTask(`o${at}`, { preemptible: true, attainedGpuMs: 1e12 });
      own = running(own, task, { gpus: [at], sinceMs: 0 });
    }
    const others = [aTask("b", { owner: "b/y" })];
    const plan = (list: readonly PlanReservation[]) =>
      planAt(12 * hour, { nodes: [own], tasks: others, reservations: list }).preemptions;
    expect(plan(reservations)).toEqual([]);
    expect(plan(reservations.slice(0, 1))).toHaveLength(1);
  });
});

test("what waits because of one names its own organisation's, and no other's", () => {
  const tasks = [aTask("b", { owner: "b/y" }), aTask("a", { owner: "a/y" })];
  const reservations = [reservation({ gpus: 4, project: "proj-x" as ProjectId })];
  const { reasons } = planAt(0, { nodes: [aNode("n", 4)], tasks, reservations });
  expect(reasons.get("task-a" as TaskId)?.message).toContain("(resv-1)");
  expect(reasons.get("task-b" as TaskId)?.message).toContain(
    "(a reservation of another organisation)",
  );
});

test("a start that would run into what is reserved for others is promised to nobody", () => {
  const node = running(aNode("n", 1), aTask("r", { owner: "b/y", maxRuntimeMs: 8 * hour }), {
    ...{ gpus: [0], sinceMs: 0 },
  });
  const task = aTask("t", { owner: "b/y", maxRuntimeMs: 4 * hour });
  const starts = (gpus: number) =>
    planAt(7 * hour, { nodes: [node], tasks: [task], reservations: [reservation({ gpus })] })
      .starts;
  expect(starts(1).has(task.id)).toBe(false);
  expect(planAt(7 * hour, { nodes: [node], tasks: [task] }).starts.get(task.id)).toBe(8 * hour);
});

test("GPUs of nodes that take no work are not counted on", () => {
  const draining = running(
    aNode("d", 2, { acceptsWork: false }),
    aTask("r", { owner: "b/y", maxRuntimeMs: hour }),
    { gpus: [0, 1], sinceMs: 0 },
  );
  const tasks = [aTask("t", { owner: "b/y", maxRuntimeMs: 30 * hour })];
  const reservations = [reservation({ gpus: 2 })];
  expect(planAt(0, { nodes: [draining, aNode("n", 2)], tasks, reservations }).placements).toEqual(
    [],
  );
});
