import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memoryTaken } from "./cluster.ts";
import type { Placement } from "./cluster.ts";
import { PlacementEngine } from "./engine.ts";
import type { PolicyName } from "./engine.ts";
import type { GpuSpec, NodeSpec } from "./nodes.ts";
import { emptyRequest } from "./shapes.ts";
import type { ResourceRequest, Shape } from "./shapes.ts";

const models = ["A", "B"];

const gpuArbitrary = fc.record({
  model: fc.constantFrom(...models),
  memoryMib: fc.constantFrom(0, 16_000),
  isolation: fc.constantFrom("mig" as const, "mps" as const),
  capacityMilli: fc.constantFrom(1000, 1000, 1000, 0),
});

const nodesArbitrary: fc.Arbitrary<NodeSpec[]> = fc
  .array(
    fc.record({
      cpuMillis: fc.integer({ min: 0, max: 16_000 }),
      memoryMib: fc.integer({ min: 0, max: 64 }),
      schedulable: fc.constantFrom(true, true, true, false),
      copies: fc.integer({ min: 1, max: 3 }),
      gpu: gpuArbitrary,
      gpus: fc.integer({ min: 0, max: 4 }),
    }),
    { minLength: 1, maxLength: 5 },
  )
  .map((kinds) =>
    kinds.flatMap(({ copies, gpu, gpus, ...node }, kind) =>
      Array.from({ length: copies }, (_, copy) => {
        const id = `node-${(kind * 7 + copy * 3) % 10}-${kind}-${copy}`;
        const spec = (index: number): GpuSpec => ({
          ...gpu,
          id: `${id}/${index}`,
          simulated: true,
        });
        const own = Array.from({ length: gpus }, (__, index) => spec(index));
        return { ...node, id, diskMib: 100, topology: {}, gpus: own };
      }),
    ),
  );

const requestArbitrary: fc.Arbitrary<ResourceRequest> = fc
  .record({
    gpus: fc.integer({ min: 0, max: 3 }),
    gpuMilli: fc.constantFrom(130, 320, 470, 500, 810, 1000),
    gpuMemoryMib: fc.constantFrom(0, 0, 4000, 9000),
    models: fc.constantFrom(null, null, ["A"], ["B"], ["A", "B"]),
    owner: fc.constantFrom("", "x", "y"),
    cpuMillis: fc.constantFrom(0, 500, 3000),
    memoryMib: fc.constantFrom(0, 8, 20),
  })
  .map((request) => {
    const gpu = request.gpus === 0 ? { gpuMilli: 0, gpuMemoryMib: 0 } : {};
    return { ...emptyRequest, ...request, ...gpu };
  });

/** Arrivals of a few kinds of task and, as a number, the departure of a running one. */
const eventsArbitrary: fc.Arbitrary<Events> = fc
  .record({
    pool: fc.array(requestArbitrary, { minLength: 1, maxLength: 5 }),
    steps: fc.array(fc.record({ arrival: fc.constantFrom(true, true, false), pick: fc.nat() }), {
      minLength: 1,
      maxLength: 80,
    }),
  })
  .map(({ pool, steps }) =>
    steps.map(({ arrival, pick }) => (arrival ? pool[pick % pool.length]! : pick)),
  );
type Events = readonly (ResourceRequest | number)[];

const names: readonly PolicyName[] = ["default", "fgd", "bestfit", "packing", "spreading"];
const policyArbitrary = fc.constantFrom(...names);

interface Running {
  readonly shape: Shape;
  readonly placement: Placement;
}

function engineOf(nodes: readonly NodeSpec[], policy: PolicyName): PlacementEngine {
  return new PlacementEngine({ nodes, policy, rng: () => 0.5, maxGpusPerNode: 4 });
}

/** Plays the events; `before` sees each arrival before it is placed. */
function play(
  engine: PlacementEngine,
  events: Events,
  before: (shape: Shape) => void = () => {},
): Running[] {
  const running: Running[] = [];
  for (const event of events) {
    if (typeof event === "number") {
      const [gone] = running.splice(event % Math.max(1, running.length), 1);
      if (gone !== undefined) engine.release(gone.shape, gone.placement);
      continue;
    }
    const shape = engine.shape(event);
    engine.observe(shape);
    before(shape);
    const placement = engine.place(shape);
    if (placement !== undefined) running.push({ shape, placement });
  }
  return running;
}

function plan(nodes: readonly NodeSpec[], policy: PolicyName, events: Events): string[] {
  const engine = engineOf(nodes, policy);
  return play(engine, events).map(
    ({ placement }) =>
      `${engine.cluster.nodes[placement.node]!.spec.id}:${placement.gpus.join(",")}`,
  );
}

describe("promises of placement", () => {
  test("capacity is never exceeded, and tenants share no GPU outside MIG", () => {
    const property = fc.property(
      nodesArbitrary,
      policyArbitrary,
      eventsArbitrary,
      (nodes, policy, events) => {
        const engine = engineOf(nodes, policy);
        const running = play(engine, events);
        for (const [index, spec] of nodes.entries()) {
          const here = running.filter(({ placement }) => placement.node === index);
          const sum = (of: (shape: Shape) => number): number =>
            here.reduce((total, { shape }) => total + of(shape), 0);
          expect(sum(({ cpuMillis }) => cpuMillis)).toBeLessThanOrEqual(spec.cpuMillis);
          expect(sum(({ memoryMib }) => memoryMib)).toBeLessThanOrEqual(spec.memoryMib);
          if (!spec.schedulable) expect(here).toEqual([]);
          for (const [gpu, { capacityMilli, memoryMib, isolation, model }] of spec.gpus.entries()) {
            const on = here.filter(({ placement }) => placement.gpus.includes(gpu));
            const milli = on.reduce((total, { shape }) => total + shape.gpuMilli, 0);
            const mib = on.reduce((total, { shape }) => total + memoryTaken(shape, memoryMib), 0);
            expect(milli).toBeLessThanOrEqual(capacityMilli);
            expect(mib).toBeLessThanOrEqual(memoryMib);
            expect(on.every(({ shape }) => shape.models?.includes(model) ?? true)).toBe(true);
            const owners = new Set(on.map(({ shape }) => shape.owner));
            if (isolation !== "mig") expect(owners.size).toBeLessThanOrEqual(1);
          }
          for (const { shape, placement } of here) {
            expect(new Set(placement.gpus).size).toBe(shape.gpus);
          }
        }
      },
    );
    fc.assert(property, { numRuns: 300 });
  });

  test("the fast path answers what a full scan answers", () => {
    const property = fc.property(
      nodesArbitrary,
      policyArbitrary,
      eventsArbitrary,
      (nodes, policy, events) => {
        const engine = engineOf(nodes, policy);
        play(engine, events, (shape) => {
          expect(engine.find(shape)).toEqual(engine.findByScan(shape));
        });
      },
    );
    fc.assert(property, { numRuns: 400 });
  });

  test("no bound is below the score it stands for", () => {
    const property = fc.property(nodesArbitrary, eventsArbitrary, (nodes, events) => {
      const engine = engineOf(nodes, "default");
      play(engine, events, (shape) => {
        engine.find(shape);
        const { cluster, fitter, policy } = engine;
        for (let slot = 0; slot < cluster.states.slots; slot++) {
          if (cluster.states.users[slot] === 0 || !fitter.fits(slot, shape)) continue;
          const tightened = policy.tighten!(slot, shape);
          expect(policy.bound(slot, shape)).toBeGreaterThanOrEqual(tightened);
          expect(tightened).toBeGreaterThanOrEqual(policy.score(slot, shape));
        }
      });
    });
    fc.assert(property, { numRuns: 400 });
  });

  test("a task that fits somewhere is never refused", () => {
    const property = fc.property(
      nodesArbitrary,
      policyArbitrary,
      eventsArbitrary,
      (nodes, policy, events) => {
        const engine = engineOf(nodes, policy);
        play(engine, events, (shape) => {
          const { fitting } = engine.explain(shape);
          expect(engine.find(shape) !== undefined).toBe(fitting > 0);
        });
      },
    );
    fc.assert(property, { numRuns: 300 });
  });

  test("the same input gives the same plan", () => {
    const property = fc.property(
      nodesArbitrary,
      policyArbitrary,
      eventsArbitrary,
      (nodes, policy, events) => {
        expect(plan(nodes, policy, events)).toEqual(plan(nodes, policy, events));
      },
    );
    fc.assert(property, { numRuns: 100 });
  });

  test("the order of nodes in the input does not matter: ties go to the lowest id", () => {
    const property = fc.property(
      nodesArbitrary,
      policyArbitrary,
      eventsArbitrary,
      (nodes, policy, events) => {
        const sorted = nodes.toSorted((a, b) => (a.id < b.id ? -1 : 1));
        const expected = plan(sorted, policy, events);
        expect(plan(nodes, policy, events)).toEqual(expected);
        expect(plan(sorted.toReversed(), policy, events)).toEqual(expected);
      },
    );
    fc.assert(property, { numRuns: 200 });
  });

  test("a rollback restores the exact state", () => {
    const property = fc.property(
      nodesArbitrary,
      eventsArbitrary,
      fc.array(requestArbitrary, { maxLength: 8 }),
      (nodes, events, trial) => {
        const engine = engineOf(nodes, "default");
        const running = play(engine, events);
        const before = engine.hash();
        const free = engine.cluster.supply.freeMilli;
        const draft = engine.draft();
        for (const { shape, placement } of running.slice(0, 3)) draft.release(shape, placement);
        for (const request of trial) draft.place(engine.shape(request));
        draft.rollback();
        expect(engine.hash()).toBe(before);
        expect(engine.cluster.supply.freeMilli).toBe(free);
      },
    );
    fc.assert(property, { numRuns: 300 });
  });

  test("a state rebuilt from its placements has the live state's hash", () => {
    const property = fc.property(nodesArbitrary, eventsArbitrary, (nodes, events) => {
      const live = engineOf(nodes, "default");
      const running = play(live, events);
      const rebuilt = engineOf(nodes.toReversed(), "default");
      for (const { shape, placement } of running.toReversed()) {
        const { id } = live.cluster.nodes[placement.node]!.spec;
        const { gpus } = placement;
        rebuilt.take(rebuilt.shape(shape), { node: rebuilt.cluster.find(id)!, gpus });
      }
      expect(rebuilt.hash()).toBe(live.hash());
      if (running.length > 0 && running[0]!.shape.cpuMillis > 0) {
        live.release(running[0]!.shape, running[0]!.placement);
        expect(live.hash()).not.toBe(rebuilt.hash());
      }
    });
    fc.assert(property, { numRuns: 200 });
  });
});
