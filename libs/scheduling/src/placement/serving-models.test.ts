import { expect, test } from "vitest";
import { PlacementEngine } from "./engine.ts";
import type { NodeSpec } from "./nodes.ts";
import { servingModels } from "./serving-models.ts";
import { emptyRequest } from "./shapes.ts";
import type { ResourceRequest } from "./shapes.ts";

function node(model: string, gpus: number, cpuMillis: number): NodeSpec {
  return {
    id: `${model}-${gpus}-${cpuMillis}`,
    cpuMillis,
    memoryMib: 1000,
    diskMib: 0,
    schedulable: true,
    topology: {},
    gpus: Array.from({ length: gpus }, (_, at) => ({
      id: `${at}`,
      model,
      memoryMib: 0,
      capacityMilli: 1000,
      isolation: "mps" as const,
      simulated: false,
    })),
  };
}

const nodes = [node("A", 8, 96_000), node("B", 8, 128_000), node("C", 2, 200_000)];

function models(over: Partial<ResourceRequest>): readonly string[] | null {
  const engine = new PlacementEngine({ nodes, policy: "default", rng: () => 0 });
  const shape = engine.shape({ ...emptyRequest, gpuMilli: 1000, ...over });
  return servingModels(engine.cluster)(shape).models;
}

test("a wide class is bound to the models whose nodes have the CPU for it", () => {
  expect(models({ gpus: 8, cpuMillis: 120_000 })).toEqual(["B"]);
  expect(models({ gpus: 2, cpuMillis: 120_000 })).toEqual(["B", "C"]);
  expect(models({ gpus: 8, cpuMillis: 120_000, models: ["A", "B"] })).toEqual(["B"]);
});

test("a class stays as it is where CPU and memory set no model apart", () => {
  expect(models({ gpus: 8, cpuMillis: 90_000 })).toBeNull();
  expect(models({ gpus: 8, cpuMillis: 120_000, models: ["B", "C"] })).toEqual(["B", "C"]);
  expect(models({ gpus: 8, memoryMib: 2000 })).toBeNull();
  expect(models({ gpus: 1, cpuMillis: 120_000 })).toBeNull();
});
