import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PlacementEngine } from "./engine.ts";
import { placeGang } from "./gang.ts";
import type { GangTopology } from "./gang.ts";
import type { NodeSpec } from "./nodes.ts";
import { bestMigStart, migProfiles } from "./mig.ts";
import { emptyRequest, type Shape } from "./shapes.ts";

/** Nodes "n0", "n1", … of the given GPU counts, two to a rack. */
function nodesOf(gpuCounts: readonly number[]): NodeSpec[] {
  return gpuCounts.map((count, index) => ({
    id: `n${index}`,
    cpuMillis: 64_000,
    memoryMib: 0,
    diskMib: 0,
    schedulable: true,
    topology: { rack: `r${Math.floor(index / 2)}` },
    gpus: Array.from({ length: count }, (_, gpu) => ({
      id: `n${index}/${gpu}`,
      model: "A100",
      memoryMib: 0,
      capacityMilli: 1000,
      isolation: "mps" as const,
      simulated: true,
    })),
  }));
}

function tryGang(
  gpuCounts: readonly number[],
  members: readonly number[],
  topology: GangTopology,
): { readonly nodes: string[] | undefined; readonly unchanged: boolean; readonly free: number } {
  const nodes = nodesOf(gpuCounts);
  const engine = new PlacementEngine({ nodes, policy: "default", rng: () => 0 });
  const before = engine.hash();
  const draft = engine.draft();
  const shapes = members.map((gpus) =>
    engine.shape({ ...emptyRequest, gpus, gpuMilli: 1000, cpuMillis: 1000 }),
  );
  const placements = placeGang(engine, draft, { members: shapes, topology });
  return {
    nodes: placements?.map(({ node }) => engine.cluster.nodes[node]!.spec.id),
    unchanged: engine.hash() === before,
    free: engine.cluster.supply.freeMilli / 1000,
  };
}

test.each([
  ["one node that holds all", [4, 8, 4, 4], [2, 2, 2], { within: "node" }, ["n1", "n1", "n1"]],
  ["no node holds all", [4, 4, 4, 4], [2, 2, 2], { within: "node" }, undefined],
  ["a rack of two nodes", [1, 1, 4, 4], [3, 3], { within: "rack" }, ["n2", "n3"]],
  ["the rack with least room", [4, 4, 3, 3], [3, 3], { within: "rack" }, ["n2", "n3"]],
  ["one to a node", [4, 4], [1, 1], { spreadOver: "node" }, ["n0", "n1"]],
  ["more members than racks", [4, 4, 4, 4], [1, 1, 1], { spreadOver: "rack" }, undefined],
  [
    "in one rack, one to a node",
    [2, 2],
    [1, 1],
    { within: "rack", spreadOver: "node" },
    ["n0", "n1"],
  ],
] as const)("gang: %s", (_, gpuCounts, members, topology, expected) => {
  const { nodes, unchanged } = tryGang(gpuCounts, members, topology);
  expect(nodes?.toSorted()).toEqual(expected);
  expect(unchanged).toBe(expected === undefined);
});

test("a gang is whole or absent", () => {
  const topologies: GangTopology[] = [
    {},
    { within: "rack" },
    { within: "node" },
    { spreadOver: "node" },
  ];
  const property = fc.property(
    fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 1, maxLength: 6 }),
    fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 6 }),
    fc.constantFrom(...topologies),
    (gpuCounts, members, topology) => {
      const { nodes, unchanged, free } = tryGang(gpuCounts, members, topology);
      const all = gpuCounts.reduce((sum, count) => sum + count, 0);
      const wanted = members.reduce((sum, count) => sum + count, 0);
      expect(nodes?.length ?? members.length).toBe(members.length);
      expect(unchanged).toBe(nodes === undefined);
      expect(free).toBe(nodes === undefined ? all : all - wanted);
    },
  );
  fc.assert(property, { numRuns: 300 });
});

describe("a gang whose members each have parts of several GPUs", () => {
  /** Thousandths of GPUs that are taken already, node by node; 1000: it is not given out at all. */
  type Taken = readonly (readonly number[])[];

  function engineOf(taken: Taken, mig: boolean): PlacementEngine {
    const nodes = nodesOf(taken.map((gpus) => gpus.length)).map(({ gpus, ...node }) => ({
      ...node,
      gpus: gpus.map((gpu) => (mig ? { ...gpu, mig: "h100-80" as const } : gpu)),
    }));
    const engine = new PlacementEngine({ nodes, policy: "default", rng: () => 0 });
    for (const [node, gpus] of taken.entries()) {
      for (const [at, milli] of gpus.entries()) {
        if (milli === 0) continue;
        const one = { ...emptyRequest, gpus: 1, gpuMilli: milli };
        if (!mig) {
          engine.take(engine.shape(one), { node, gpus: [at] });
          continue;
        }
        const profile = migProfiles.get("h100-80/1g.10gb")!;
        const shape = engine.shape({ ...one, gpuMilli: profile.gpuMilli, migProfile: profile.id });
        for (let slice = 0; slice < Math.round(milli / profile.gpuMilli); slice++) {
          engine.take(shape, { node, gpus: [at], starts: [slice] });
        }
      }
    }
    return engine;
  }

  /** Whether all members fit, by trying every choice of GPUs. */
  function fitsSomehow(engine: PlacementEngine, shape: Shape, members: number): boolean {
    if (members === 0) return true;
    const { nodes, states } = engine.cluster;
    for (const [node, { slot, order }] of nodes.entries()) {
      if (!engine.fitter.fits(slot, shape)) continue;
      const base = states.base[slot]!;
      const columns = order.flatMap((_, i) => (engine.fitter.gpuFits(base + i, shape) ? [i] : []));
      for (const chosen of subsets(columns, shape.gpus)) {
        const gpus = chosen.map((i) => order[i]!);
        const starts = chosen.map((i) =>
          shape.mig === undefined ? 0 : bestMigStart(shape.mig, states.owner[base + i]!),
        );
        const place = shape.mig === undefined ? { node, gpus } : { node, gpus, starts };
        engine.take(shape, place);
        const all = fitsSomehow(engine, shape, members - 1);
        engine.release(shape, place);
        if (all) return true;
      }
    }
    return false;
  }

  function subsets(of: readonly number[], size: number): number[][] {
    if (size === 0) return [[]];
    return of.flatMap((first, at) =>
      subsets(of.slice(at + 1), size - 1).map((rest) => [first, ...rest]),
    );
  }

  test("is placed wherever that is possible", () => {
    const seen = { placed: 0, refused: 0 };
    const shares = fc.record({
      mig: fc.constant(false),
      taken: fc.array(fc.array(fc.constantFrom(0, 0, 250, 500, 700, 1000), { maxLength: 4 }), {
        minLength: 1,
        maxLength: 2,
      }),
      part: fc.constantFrom(200, 250, 400, 500).map((gpuMilli) => ({ gpuMilli })),
    });
    const instances = fc.record({
      mig: fc.constant(true),
      taken: fc.array(fc.array(fc.constantFrom(0, 0, 125, 250, 500, 625), { maxLength: 4 }), {
        minLength: 1,
        maxLength: 2,
      }),
      part: fc
        .constantFrom("1g.20gb", "2g.20gb", "3g.40gb")
        .map((name) => migProfiles.get(`h100-80/${name}`)!)
        .map(({ id, gpuMilli }) => ({ migProfile: id, gpuMilli })),
    });
    const promise = fc.property(
      fc.oneof(shares, instances),
      fc.integer({ min: 2, max: 3 }),
      fc.integer({ min: 2, max: 4 }),
      fc.constantFrom(0, 20_000),
      ({ mig, taken, part }, gpus, members, cpuMillis) => {
        const engine = engineOf(taken, mig);
        const shape = engine.shape({ ...emptyRequest, ...part, gpus, cpuMillis });
        const possible = fitsSomehow(engine, shape, members);
        const before = engine.hash();
        const draft = engine.draft();
        const alike = Array.from({ length: members }, () => shape);
        const places = placeGang(engine, draft, { members: alike });
        expect(places?.length).toBe(possible ? members : undefined);
        for (const { gpus: own } of places ?? []) expect(new Set(own).size).toBe(gpus);
        draft.rollback();
        expect(engine.hash()).toBe(before);
        seen[possible ? "placed" : "refused"]++;
      },
    );
    fc.assert(promise, { numRuns: 400 });
    expectSeen(seen.placed, 100, "placed");
    expectSeen(seen.refused, 50, "refused");
  });

  test("gets GPUs that leave room for the other members, where the policy's own places do not", () => {
    // Two halves fit on the first, one on each of the others: who gets those leaves the first alone.
    const engine = engineOf([[0, 500, 500]], false);
    const shape = engine.shape({ ...emptyRequest, gpus: 2, gpuMilli: 500 });
    const places = placeGang(engine, engine.draft(), { members: [shape, shape] });
    expect(places?.map(({ gpus }) => gpus.toSorted((a, b) => a - b))).toEqual([
      [0, 1],
      [0, 2],
    ]);
  });
});
