import { expect, test } from "vitest";
import { worthPerCpu } from "./carried-worth.ts";
import { gapPrices } from "./gap-price.ts";
import { Mix } from "./mix.ts";
import { createShapeTable, emptyRequest } from "./shapes.ts";
import type { ResourceRequest } from "./shapes.ts";

const { intern } = createShapeTable();
const prices = gapPrices([{ milli: 500, count: 1 }]);

function mixOf(...classes: readonly [number, Partial<ResourceRequest>][]): Mix {
  const mix = new Mix();
  for (const [times, over] of classes) {
    mix.observe(intern({ ...emptyRequest, gpus: 1, gpuMilli: 1000, ...over }), times);
  }
  return mix;
}

test("CPU carries what it does for the tasks that need least of it", () => {
  const mix = mixOf(
    [2, { cpuMillis: 12_000 }],
    [1, { cpuMillis: 4000 }],
    [2, { gpuMilli: 500, cpuMillis: 1000 }],
  );
  // Per whole GPU 2,000, 4,000 and 12,000, of worth 1, 1 and 2: the lower half needs 3,000.
  expect(worthPerCpu(mix, prices, { model: "A", part: 0.5 })).toBeCloseTo(1000 / 3000);
  expect(worthPerCpu(mix, prices, { model: "A", part: 0.25 })).toBeCloseTo(1000 / 2000);
});

test("only tasks that may run on the model count", () => {
  const mix = mixOf([1, { cpuMillis: 1000, models: ["B"] }], [1, { cpuMillis: 8000 }]);
  expect(worthPerCpu(mix, prices, { model: "A", part: 0.5 })).toBeCloseTo(1000 / 8000);
  expect(worthPerCpu(mix, prices, { model: "B", part: 0.5 })).toBeCloseTo(1000 / 1000);
});

test("CPU limits nothing where nothing needs it", () => {
  const setting = { model: "A", part: 0.5 };
  expect(worthPerCpu(new Mix(), prices, setting)).toBe(Number.POSITIVE_INFINITY);
  expect(worthPerCpu(mixOf([1, {}]), prices, setting)).toBe(Number.POSITIVE_INFINITY);
});
