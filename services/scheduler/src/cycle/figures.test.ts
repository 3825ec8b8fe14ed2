import { manualClock } from "@fastgpu/testkit/clock";
import { expect, test } from "vitest";
import { TermFigures } from "./figures.ts";
import { createMirror } from "./mirror.ts";

test("times of plans are those of the last 256, whatever came before", () => {
  const mirror = createMirror(manualClock());
  const figures = new TermFigures(12);
  expect(figures.read(mirror)).toMatchObject({
    plans: 0,
    planP50Ms: 0,
    planP99Ms: 0,
    rebuildMs: 12,
  });
  figures.planned(7);
  expect(figures.read(mirror)).toMatchObject({ plans: 1, planP50Ms: 7, planP99Ms: 7 });
  for (let ms = 1; ms <= 256; ms += 1) figures.planned(ms);
  expect(figures.read(mirror)).toMatchObject({ plans: 257, planP50Ms: 128, planP99Ms: 254 });
});
