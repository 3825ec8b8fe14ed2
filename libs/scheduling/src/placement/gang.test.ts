import fc from "fast-check";
import { expect, test } from "vitest";
import { PlacementEngine } from "./engine.ts";
import { placeGang } from "./gang.ts";
import type { GangTopology } from "./gang.ts";
import type { NodeSpec } from "./nodes.ts";
import { emptyRequest } from "./shapes.ts";

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
