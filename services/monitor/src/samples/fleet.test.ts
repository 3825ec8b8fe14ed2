import { manualClock } from "@fastgpu/testkit/clock";
import { anId } from "@fastgpu/testkit/factories";
import { expect, test } from "vitest";
import { createFleet } from "./fleet.ts";
import type { NodeReading } from "./sample.ts";

const figures = {
  utilizationPercent: 1,
  memoryUsedMib: 1,
  memoryFreeMib: 1,
  temperatureCelsius: 1,
  powerWatts: 1,
  smClockMhz: 1,
  memoryClockMhz: 1,
  totalEnergyMillijoules: 1,
  xid: 0,
};
const node = anId("node");
const gpu = anId("gpu");

function reading(timeMs: number, utilizationPercent: number): NodeReading {
  const newest = { ...figures, utilizationPercent };
  const one = { gpu, index: 0, model: "M", simulated: false, timeMs, figures: newest };
  return { node, timeMs, cpuPercent: 1, memoryUsedMib: 1, gpus: [one] };
}

function aFleet(maxGpus = 10) {
  const clock = manualClock(1_000_000);
  const bounds = { keepMs: 900_000, stepMs: 1_000, forgetMs: 3_600_000 };
  return { clock, fleet: createFleet({ clock, maxGpus, ...bounds }) };
}

const utilization = (fleet: ReturnType<typeof aFleet>["fleet"]) =>
  fleet.nodes()[0]?.gpus[0]?.newest.figures.utilizationPercent;

test("a message that was held up does not replace a newer one", () => {
  const { clock, fleet } = aFleet();
  fleet.take(reading(clock.nowMs(), 50));
  fleet.take(reading(clock.nowMs() - 5_000, 10));
  expect(utilization(fleet)).toBe(50);
});

test("a worker whose clock was set back is heard at once", () => {
  const { clock, fleet } = aFleet();
  fleet.take(reading(clock.nowMs(), 50));
  clock.advance(5_000);
  fleet.take(reading(clock.nowMs() - 3_600_000, 60));
  expect(utilization(fleet)).toBe(60);
  expect(fleet.nodes()[0]?.heardMs).toBe(clock.nowMs());
});

test("what is silent for long is forgotten and makes room", () => {
  const { clock, fleet } = aFleet(1);
  expect(fleet.take(reading(clock.nowMs(), 1))).toBe(true);
  const other = { ...reading(clock.nowMs(), 2), node: anId("node") };
  expect(fleet.take(other)).toBe(false);
  clock.advance(3_600_001);
  fleet.forget();
  expect(fleet.nodes()).toEqual([]);
  expect(fleet.history(node, gpu, 1_000)).toBeUndefined();
  expect(fleet.take(other)).toBe(true);
});
