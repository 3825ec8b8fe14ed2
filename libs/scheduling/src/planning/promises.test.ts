import type { TaskId } from "@fastgpu/domain/ids";
import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { milliOfDemand, milliOfPart } from "../gpu-part.ts";
import {
  gpusOfPlacement,
  type GpuMode,
  type GpuPart,
  type Plan,
  type PlanNode,
  type PlanQueue,
  type PlanState,
  type PlanTask,
} from "../plan.ts";
import { createPlanner } from "../planner.ts";
import { World, type Work } from "../scene-world.ts";
import { aNode, aQueue, aState, aTask } from "../scene.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "../scheduling-policy.ts";

const hour = 3_600_000;
const minute = 60_000;
const owners = ["a/x", "a/x/eve", "a/y", "b/z", "c/w"];
const models = ["A100", "H100"];

const whole: GpuMode = { isolation: "exclusive" };
const divided: GpuMode = { isolation: "mig", geometry: "h100-80" };
const shared: GpuMode[] = (
  ["timeslice", "timeslice", "mps", "dmem_timeslice", "dmem_mps"] as const
).map((isolation) => ({ isolation }));

const fleetOf = (of: {
  modes: GpuMode[];
  least?: number;
  most: number;
}): fc.Arbitrary<PlanNode[]> =>
  fc
    .array(
      fc.record({
        gpus: fc.integer({ min: of.least ?? 0, max: of.most }),
        model: fc.constantFrom(...models),
        rack: fc.constantFrom("r1", "r2"),
        cores: fc.integer({ min: 3, max: 20 }),
        accepts: fc.boolean(),
        mode: fc.constantFrom(...of.modes),
        // Where not all GPUs of a node are in one mode, every second one is whole.
        mixed: fc.boolean(),
      }),
      { minLength: 1, maxLength: 5, size: "max" },
    )
    .map((nodes) =>
      nodes.map(({ gpus, model, rack, cores, accepts, mode, mixed }, at) =>
        aNode(`n${at}`, gpus, {
          model,
          mode: (gpu) => (mixed && gpu % 2 === 1 ? whole : mode),
          topology: { rack },
          cpuMillis: cores * 1_000,
          // At least the first one takes work.
          acceptsWork: accepts || at === 0,
        }),
      ),
    );

const wholeGpus = fc.constant(undefined);
const aShare: fc.Arbitrary<GpuPart> = fc.record({
  kind: fc.constant("share" as const),
  milli: fc.constantFrom(1, 100, 250, 300, 500, 501, 900, 999),
  weakest: fc.constantFrom("dmem_mps", "mps", "timeslice", "timeslice", "timeslice"),
});
const anInstance: fc.Arbitrary<GpuPart> = fc.record({
  kind: fc.constant("mig" as const),
  profile: fc
    .constantFrom("1g.10gb", "1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    .map((name) => `h100-80/${name}`),
});

const workOf = (of: {
  part: fc.Arbitrary<GpuPart | undefined>;
  gpuCount?: number[];
  replicas?: number[];
}): fc.Arbitrary<Omit<Work, "task"> & { of: Parameters<typeof aTask>[1] }> =>
  fc
    .record({
      owner: fc.constantFrom(...owners),
      gpuCount: fc.constantFrom(...(of.gpuCount ?? [0, 1, 1, 2, 4])),
      gpuModels: fc.constantFrom<string[]>([], [], ["A100"], ["H100"], ["H100", "A100"]),
      part: of.part,
      gpuMemoryMib: fc.constantFrom(0, 0, 0, 10_000, 30_000, 70_000),
      replicas: fc.constantFrom(...(of.replicas ?? [1, 1, 1, 2, 3])),
      topology: fc.constantFrom(
        {},
        {},
        { within: "rack" as const },
        { spreadOver: "node" as const },
      ),
      preemptible: fc.boolean(),
      priority: fc.integer({ min: 0, max: 2 }),
      limitMs: fc.integer({ min: 1, max: 20 }),
      tenths: fc.integer({ min: 1, max: 10 }),
    })
    .map(({ owner, gpuCount, gpuModels, part, gpuMemoryMib, limitMs, tenths, ...shape }) => {
      const maxRuntimeMs = limitMs * hour;
      const gpus = { gpuCount, gpuModels, part, gpuMinMemoryMib: gpuMemoryMib };
      const demand = gpuCount === 0 ? { gpuCount, gpuModels } : gpus;
      return { of: { owner, demand, maxRuntimeMs, ...shape }, runMs: (maxRuntimeMs * tenths) / 10 };
    });

const arbitraryQueues: fc.Arbitrary<PlanQueue[]> = fc
  .array(
    fc.record({
      owner: fc.constantFrom("a", "b", ...owners),
      weight: fc.integer({ min: 1, max: 4 }),
      guaranteed: fc.integer({ min: 0, max: 3 }),
      more: fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined }),
      model: fc.constantFrom(...models),
      modelLimit: fc.option(fc.integer({ min: 0, max: 4 }), { nil: undefined }),
    }),
    { maxLength: 4 },
  )
  .map((rows) => {
    const byOwner = new Map(
      rows.map(({ owner, weight, guaranteed, more, model, modelLimit }) => [
        owner,
        aQueue(owner, {
          weight,
          guaranteedGpus: guaranteed,
          limitGpus: more === undefined ? undefined : guaranteed + more,
          models: { [model]: { guaranteedGpus: 0, limitGpus: modelLimit } },
        }),
      ]),
    );
    return [...byOwner.values()];
  });

const sceneOf = (of: { fleet: fc.Arbitrary<PlanNode[]>; work: ReturnType<typeof workOf> }) =>
  fc.record({
    fleet: of.fleet,
    works: fc.array(fc.tuple(of.work, fc.integer({ min: 0, max: 30 })), {
      maxLength: 30,
      size: "max",
    }),
    queues: arbitraryQueues,
    preempt: fc.boolean(),
    backfill: fc.boolean(),
  });
type Scene = ReturnType<typeof sceneOf> extends fc.Arbitrary<infer S> ? S : never;

const wholeScene = sceneOf({
  fleet: fleetOf({ modes: [whole], most: 8 }),
  work: workOf({ part: wholeGpus }),
});
const partsScene = fc.oneof(
  sceneOf({
    fleet: fleetOf({ modes: shared, most: 3 }),
    work: workOf({ part: fc.oneof(wholeGpus, aShare, aShare, aShare) }),
  }),
  sceneOf({
    fleet: fleetOf({ modes: [divided, divided, whole], most: 3 }),
    work: workOf({ part: fc.oneof(wholeGpus, anInstance, anInstance, anInstance) }),
  }),
  sceneOf({
    fleet: fleetOf({ modes: [...shared, divided, divided, whole], most: 4 }),
    work: workOf({ part: fc.oneof(wholeGpus, aShare, anInstance) }),
  }),
);
/** Gangs above all whose members each have parts of several GPUs, on nodes that hold more than one of them. */
const partGangs = fc.oneof(
  gangScene(
    shared,
    fc.record({
      kind: fc.constant("share" as const),
      milli: fc.constantFrom(200, 250, 300, 400, 500, 600),
      weakest: fc.constant("timeslice" as const),
    }),
  ),
  gangScene(
    [divided],
    fc.record({
      kind: fc.constant("mig" as const),
      profile: fc.constantFrom("h100-80/1g.20gb", "h100-80/2g.20gb", "h100-80/3g.40gb"),
    }),
  ),
);

function gangScene(modes: GpuMode[], part: fc.Arbitrary<GpuPart>) {
  const counts = [1, 2, 2, 2, 3];
  const work = workOf({ part, gpuCount: counts, replicas: counts }).map(({ of, ...rest }) => {
    // Little else that would keep them from starting.
    const demand = { ...of?.demand, gpuModels: [], gpuMinMemoryMib: 0, cpuMillis: 100 };
    return { ...rest, of: { ...of, demand } };
  });
  return sceneOf({ fleet: fleetOf({ modes, least: 2, most: 4 }), work });
}

/** With how often something has to come up for a test to mean anything: more than so often. */
const scenes = [
  ["whole GPUs", wholeScene, { placed: 1_000, preempted: 5, kept: 50, packed: -1 }],
  ["parts of GPUs", partsScene, { placed: 300, preempted: 1, kept: 5, packed: -1 }],
] as const;

function policyOf({ preempt, backfill }: Pick<Scene, "preempt" | "backfill">): SchedulingPolicy {
  return {
    ...defaultSchedulingPolicy,
    preemption: { enabled: preempt },
    backfill: { ...defaultSchedulingPolicy.backfill, enabled: backfill },
  };
}

/** Plays a scene until nothing more happens, or so many turns; `look` sees the world after each plan. */
function play(
  scene: Scene & { policy?: SchedulingPolicy; runTimes?: PlanState["runTimes"] },
  look: (world: World, plan: Plan) => void,
  turns = 80,
): World {
  const world = new World(scene.fleet, scene.policy ?? policyOf(scene));
  world.queues = scene.queues;
  world.runTimes = scene.runTimes;
  const arrivals = scene.works
    .map(([{ of, runMs }, atHours], at) => ({
      atMs: atHours * hour,
      runMs,
      task: aTask(`t${String(at).padStart(2, "0")}`, { ...of, submittedMs: atHours * hour }),
    }))
    .toSorted((a, b) => a.atMs - b.atMs);
  for (let turn = 0; turn < turns; turn++) {
    while (arrivals[0] !== undefined && arrivals[0].atMs <= world.nowMs) {
      world.submit(arrivals.shift()!);
    }
    look(world, world.turn());
    const next = Math.min(arrivals[0]?.atMs ?? Infinity, world.nextMs(), world.nowMs + 4 * hour);
    if (world.running.size === 0 && arrivals.length === 0) break;
    world.advance(Math.max(world.nowMs + 1, next));
  }
  return world;
}

const limitsOf = (queues: readonly PlanQueue[]) =>
  queues.flatMap((row) => [
    { row, model: undefined, limitGpus: row.limitGpus ?? Infinity },
    ...Object.entries(row.models).map(([model, { limitGpus = Infinity }]) => ({
      row,
      model,
      limitGpus,
    })),
  ]);

function heldBy(
  world: World,
  { org, project, user }: PlanQueue,
  model: string | undefined,
): number {
  let milli = 0;
  for (const { gpus, running } of world.nodes.values()) {
    for (const lease of running) {
      const counts =
        lease.org === org &&
        (project ?? lease.project) === lease.project &&
        (user ?? lease.user) === lease.user;
      if (!counts) continue;
      const counted = gpus.filter(
        (gpu) => lease.gpus.includes(gpu.id) && (model ?? gpu.model) === gpu.model,
      );
      milli += counted.length * milliOfPart(lease.part);
    }
  }
  return milli / 1000;
}

describe.each(scenes)("over any fleet of %s, queues and history", (_, arbitraryScene, least) => {
  test("capacity is never exceeded, no GPU is given out twice, a gang is whole or absent", () => {
    let placed = 0;
    let preempted = 0;
    fc.assert(
      fc.property(arbitraryScene, (scene) => {
        // The world checks every placement and preemption that it applies.
        const world = play(scene, (_, plan) => (placed += plan.placements.length));
        preempted += world.preempted.length;
      }),
      { numRuns: 150 },
    );
    expectSeen(placed, least.placed, "placed");
    expectSeen(preempted, least.preempted, "preempted");
  });

  test("a quota is never passed, in all or of a model", () => {
    fc.assert(
      fc.property(arbitraryScene, (scene) => {
        play(scene, (world) => {
          for (const { row, model, limitGpus } of limitsOf(scene.queues)) {
            expect(heldBy(world, row, model)).toBeLessThanOrEqual(limitGpus);
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test("what waits has a reason, and what starts has none", () => {
    fc.assert(
      fc.property(arbitraryScene, (scene) => {
        play(scene, (world, { placements, reasons }) => {
          for (const { task } of placements) expect(reasons.has(task.id)).toBe(false);
          for (const id of world.waiting.keys()) expect(reasons.has(id)).toBe(true);
        });
      }),
      { numRuns: 60 },
    );
  });

  test("the same input gives the same plan, and the input's order does not matter", () => {
    fc.assert(
      fc.property(arbitraryScene, fc.nat(20), (scene, turns) => {
        const { state, nowMs } = stateAfter(scene, turns);
        const plan = (of: PlanState): Plan =>
          createPlanner({ policy: policyOf(scene), rng: () => 0.5 }).plan(of, nowMs);
        const one = plan(state);
        expect(plan(state)).toEqual(one);
        const turned = plan({
          nodes: state.nodes.toReversed(),
          tasks: state.tasks.toReversed(),
          queues: state.queues.toReversed(),
          usage: state.usage.toReversed(),
          reservations: state.reservations.toReversed(),
          runTimes: (state.runTimes ?? []).toReversed(),
          ranks: (state.ranks ?? []).toReversed(),
        });
        expect(decisionsOf(turned)).toEqual(decisionsOf(one));
      }),
      { numRuns: 100 },
    );
  });
});

test("organisations share a GPU in MIG instances only, each part within what the GPU has", () => {
  const seen = { shares: 0, beside: 0, instances: 0, strangers: 0, stopped: 0 };
  const promise = fc.property(partsScene, (scene) => {
    // The world checks each GPU whenever something is placed on it (scene-parts.ts); here is counted what came up.
    play({ ...scene, preempt: true }, (world, { preemptions }) => {
      const leases = [...world.nodes.values()].flatMap((node) => node.running);
      const victims = new Set(preemptions.map(({ victim }) => victim));
      for (const { attempt, part } of leases) {
        if (part !== undefined && victims.has(attempt)) seen.stopped++;
      }
      for (const on of Map.groupBy(
        leases.flatMap((lease) => lease.gpus.map((gpu) => ({ gpu, lease }))),
        ({ gpu }) => gpu,
      ).values()) {
        const kind = on[0]!.lease.part?.kind;
        if (kind === "share") seen.shares++;
        if (kind === "mig") seen.instances++;
        if (kind === "share" && on.length > 1) seen.beside++;
        if (new Set(on.map(({ lease }) => lease.org)).size > 1) seen.strangers++;
      }
    });
  });
  fc.assert(promise, { numRuns: 150 });
  expectSeen(seen.shares, 300, "seen.shares");
  expectSeen(seen.beside, 50, "seen.beside");
  expectSeen(seen.instances, 100, "seen.instances");
  expectSeen(seen.strangers, 5, "seen.strangers");
  expectSeen(seen.stopped, 1, "seen.stopped");
});

/** The state of a scene after so many turns. */
function stateAfter(scene: Scene, turns: number): { state: PlanState; nowMs: number } {
  let at: { state: PlanState; nowMs: number } | undefined;
  play(scene, (world) => (at = { state: world.state(), nowMs: world.nowMs }), turns + 1);
  return at ?? { state: aState({ nodes: scene.fleet, tasks: [] }), nowMs: 0 };
}

const decisionsOf = ({ placements, preemptions, reasons, starts }: Plan) => ({
  placements,
  preemptions,
  reasons: new Map([...reasons].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  starts,
});

describe.each(scenes)("preemption on %s", (_, arbitraryScene) => {
  test("a preemptor starts once its victims are gone, and every victim was needed", () => {
    let preemptions = 0;
    const promise = fc.property(arbitraryScene, (scene) => {
      play({ ...scene, preempt: true }, (world, plan) => {
        if (plan.preemptions.length === 0) return;
        const byTask = Map.groupBy(plan.preemptions, ({ reservedFor }) => reservedFor);
        // Nothing else happens until the victims are gone: then all of them start.
        const then = afterStops(world);
        for (const [task, victims] of byTask) {
          preemptions++;
          expect(then.started.has(task)).toBe(true);
          // With one victim left running there is no room for it.
          for (const { victim } of victims.length > 1 ? victims : []) {
            expect(then.started.get(task)).toBeGreaterThanOrEqual(world.running.get(victim)!.endMs);
          }
        }
      });
    });
    fc.assert(promise, { numRuns: 150 });
    expectSeen(preemptions, 5, "preemptions");
  });

  test("never goes in circles: what has run so long is stopped a bounded number of times", () => {
    const { order } = defaultSchedulingPolicy;
    fc.assert(
      fc.property(arbitraryScene, (scene) => {
        const world = play({ ...scene, preempt: true }, () => undefined, 200);
        const stops = Map.groupBy(world.preempted, ({ task }) => task);
        for (const [task, list] of stops) {
          const ran = world.ranMs(task);
          expect(list.length).toBeLessThanOrEqual(
            1 + order.allowanceBase + ran / order.allowancePerMs,
          );
          for (const [at, { atMs }] of list.entries()) {
            const before = list[at - 1]?.atMs ?? -Infinity;
            expect(atMs - before).toBeGreaterThanOrEqual(order.minRunMs);
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});

/** The same world once everything that stops has stopped, and a plan more. */
function afterStops(world: World): World {
  const then = world.copy();
  for (let turn = 0; turn < 3; turn++) {
    const stopping = [...then.running.values()].filter(({ stopping: stops }) => stops);
    if (stopping.length > 0) then.advance(Math.max(...stopping.map(({ endMs }) => endMs)));
    then.turn();
  }
  return then;
}

describe.each([
  ...scenes,
  ["gangs that have parts of several GPUs", partGangs, { kept: 100, packed: 50 }] as const,
])("on %s backfill", (_, arbitraryScene, least) => {
  type Windows = Partial<SchedulingPolicy["backfill"]>;

  /** The scene with one queue in order of submission, so that no change of shares is anyone's fault. */
  function oneQueue(scene: Scene, windows: Windows) {
    const works = scene.works.map(([{ of, runMs }]) => [
      { of: { ...of, owner: "a/x", preemptible: false, priority: 0 }, runMs },
      0,
    ]) as Scene["works"];
    const alone = { ...scene, works, backfill: true, preempt: false, queues: [] };
    const policy = policyOf(alone);
    return { ...alone, policy: { ...policy, backfill: { ...policy.backfill, ...windows } } };
  }

  /** Whether the members of a gang each have parts of several GPUs: not any of the GPUs that are free will do. */
  const isPacked = ({ demand, replicas }: PlanTask): boolean =>
    demand.part !== undefined && demand.gpuCount > 1 && replicas > 1;

  /** Plays to the end, and checks each first start that `read` tells against the true one. */
  function checkStarts(
    scene: Parameters<typeof play>[0],
    read: (plan: Plan) => Plan["starts"],
  ): { kept: number; packed: number } {
    const told = new Map<TaskId, number>();
    let packed = 0;
    const note = (world: World, plan: Plan): void => {
      for (const [task, ms] of read(plan)) {
        if (told.has(task)) continue;
        told.set(task, ms);
        if (isPacked(world.waiting.get(task)!.task)) packed++;
      }
    };
    const world = play(scene, note, 300);
    for (const [task, ms] of told) expect(world.started.get(task)).toBeLessThanOrEqual(ms);
    return { kept: told.size, packed };
  }

  test("never delays the promised start, whatever run times were expected: without new arrivals a head starts by then", () => {
    const seen = { kept: 0, packed: 0 };
    const windows = fc.record({
      predict: fc.constantFrom(true, true, false),
      promiseWithinMs: fc.constantFrom(0, hour, 8 * hour, 40 * hour),
      promiseAfterMs: fc.constantFrom(0, 5 * hour, 1_000 * hour),
    });
    // From far too short to far too long; by default what the world learns.
    const expectations = fc.option(
      fc.tuple(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 8 })),
      { nil: undefined },
    );
    fc.assert(
      fc.property(arbitraryScene, windows, expectations, (scene, backfill, expected) => {
        const [minutes = 0, factor = 1] = expected ?? [];
        const p50Ms = minutes * minute;
        const runTimes = expected && [{ id: "proj-x", p50Ms, p90Ms: p50Ms * factor }];
        const alone = { ...oneQueue(scene, backfill), ...(runTimes && { runTimes }) };
        const { kept, packed } = checkStarts(alone, ({ starts }) => starts);
        seen.kept += kept;
        seen.packed += packed;
      }),
      { numRuns: 300 },
    );
    expectSeen(seen.kept, least.kept, "kept");
    expectSeen(seen.packed, least.packed, "gangs with parts of several GPUs");
  });

  test("never delays the expected start while nothing outlasts what half of its like run", () => {
    const seen = { kept: 0, packed: 0 };
    const never = { predict: true, promiseWithinMs: 0, promiseAfterMs: 1_000 * hour };
    fc.assert(
      fc.property(arbitraryScene, fc.integer({ min: 1, max: 5 }), (scene, factor) => {
        const alone = oneQueue(scene, never);
        // By width: half of the runs have ended with the longest of them.
        const widths = Map.groupBy(alone.works, ([{ of = {} }]) =>
          String((milliOfDemand({ gpuCount: 1, ...of.demand }) * (of.replicas ?? 1)) / 1000),
        );
        const runTimes = Array.from(widths, ([width, works]) => {
          const p50Ms = Math.max(...works.map(([{ runMs }]) => runMs));
          return { id: `proj-x/${width}`, p50Ms, p90Ms: p50Ms * factor };
        });
        const { kept, packed } = checkStarts({ ...alone, runTimes }, ({ expected }) => expected);
        seen.kept += kept;
        seen.packed += packed;
      }),
      { numRuns: 200 },
    );
    expectSeen(seen.kept, least.kept, "kept");
    expectSeen(seen.packed, least.packed, "gangs with parts of several GPUs");
  });
});

test("who has queued for long enough is promised a start, and nothing starves for it", () => {
  // Everybody may run for a day and runs for minutes, but for one in ten, that does run for a day.
  const day = 24 * hour;
  const world = new World([aNode("n", 4)], {
    ...defaultSchedulingPolicy,
    backfill: { ...defaultSchedulingPolicy.backfill, promiseAfterMs: 6 * hour },
  });
  const wide = aTask("wide", { owner: "b/y", demand: { gpuCount: 4 }, maxRuntimeMs: hour });
  let count = 0;
  const feed = (): void => {
    while (world.waiting.size < 12) {
      const submittedMs = world.nowMs;
      const runMs = ++count % 10 === 0 ? day : 10 * minute;
      world.submit({ task: aTask(`t${count}`, { maxRuntimeMs: day, submittedMs }), runMs });
    }
  };
  for (; world.nowMs < hour; world.advance(world.nextMs())) {
    feed();
    world.turn();
  }
  world.submit({ task: { ...wide, submittedMs: world.nowMs }, runMs: hour });
  const sinceMs = world.nowMs;
  let promisedMs = Number.POSITIVE_INFINITY;
  for (; !world.started.has(wide.id); world.advance(world.nextMs())) {
    feed();
    promisedMs = Math.min(promisedMs, world.turn().starts.get(wide.id) ?? Infinity);
    if (world.nowMs > sinceMs + 7 * hour) expect(promisedMs).toBeLessThan(Infinity);
    expect(world.nowMs).toBeLessThanOrEqual(sinceMs + 8 * hour + day);
  }
  expect(world.started.get(wide.id)).toBeLessThanOrEqual(promisedMs);
});

describe("fairness", () => {
  /** Endless work of two tenants, each task of 20 to 60 minutes on one GPU. */
  function feed(world: World, owner: string, next: () => number): void {
    const mine = [...world.waiting.values()].filter(
      ({ task }) => task.org === aTask("", { owner }).org,
    );
    for (let count = mine.length; count < 24; count++) {
      const id = `${owner}-${world.nowMs}-${count}`;
      const runMs = 20 * minute + (next() % 40) * minute;
      const task = aTask(id, { owner, submittedMs: world.nowMs, maxRuntimeMs: 2 * hour });
      world.submit({ task, runMs });
    }
  }

  // Who had everything for two hours first would be 6.25 % over at the end, were past service forgotten.
  test("shares of 1:3 converge within 3 % of the fleet over a day, 5 % where one comes late", () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(1_000)), fc.boolean(), (stream, lateComer) => {
        const next = (): number => stream.next().value;
        const world = new World([aNode("n", 8), aNode("m", 8)]);
        world.queues = [aQueue("a", { weight: 1 }), aQueue("b", { weight: 3 })];
        const until = 24 * hour;
        while (world.nowMs < until) {
          feed(world, "a/x", next);
          if (!lateComer || world.nowMs >= 2 * hour) feed(world, "b/y", next);
          world.turn();
          world.advance(world.nextMs());
        }
        const a = world.served.get(aTask("", { owner: "a/x" }).project) ?? 0;
        const b = world.served.get(aTask("", { owner: "b/y" }).project) ?? 0;
        expect(Math.abs(a / (a + b) - 0.25)).toBeLessThan(lateComer ? 0.05 : 0.03);
      }),
      { numRuns: 6 },
    );
  });

  test("nothing starves: every task of a mixed load starts, the widest gang too", () => {
    fc.assert(
      fc.property(fc.infiniteStream(fc.nat(1_000)), fc.boolean(), (stream, preempt) => {
        const next = (): number => stream.next().value;
        const world = new World(
          [aNode("n", 4), aNode("m", 4)],
          policyOf({ preempt, backfill: true }),
        );
        const wide = aTask("wide", { owner: "a/x", replicas: 2, demand: { gpuCount: 4 } });
        const late = { ...wide, submittedMs: hour, maxRuntimeMs: 2 * hour };
        let submitted = false;
        while (world.nowMs < 12 * hour) {
          feed(world, "a/x", next);
          feed(world, "b/y", next);
          if (world.nowMs >= hour && !submitted) {
            submitted = true;
            world.submit({ task: late, runMs: hour });
          }
          world.turn();
          world.advance(world.nextMs());
        }
        expect(world.started.has(wide.id)).toBe(true);
      }),
      { numRuns: 6 },
    );
  });
});

test("arrays take what is free at once, and their leases count like tasks", () => {
  const array = aTask("array", { array: { pending: 5_000, leasesLeft: 100 } });
  const nodes = [aNode("n", 8)];
  const queues = [aQueue("a", { limitGpus: 5 })];
  const planner = createPlanner({ policy: defaultSchedulingPolicy, rng: () => 0.5 });
  const plan = planner.plan(aState({ nodes, tasks: [array], queues }), 0);
  expect(plan.placements.map(({ elements }) => elements)).toEqual([
    1_000, 1_000, 1_000, 1_000, 1_000,
  ]);
  expect(plan.placements.flatMap(gpusOfPlacement)).toHaveLength(5);
});
