import { expect, test } from "vitest";
import { anId } from "@fastgpu/testkit/factories";
import type { Figures } from "../samples/sample.ts";
import { gpuHealth } from "./gpu-health.ts";
import { xidAction } from "./xid.ts";

const none: Figures = {
  utilizationPercent: Number.NaN,
  memoryUsedMib: Number.NaN,
  memoryFreeMib: Number.NaN,
  temperatureCelsius: Number.NaN,
  powerWatts: Number.NaN,
  smClockMhz: Number.NaN,
  memoryClockMhz: Number.NaN,
  totalEnergyMillijoules: Number.NaN,
  xid: Number.NaN,
};
const fine: Figures = { ...none, utilizationPercent: 50, temperatureCelsius: 60, xid: 0 };

test.each([
  ["fresh and fine", 0, 0, fine, "healthy", /^$/],
  [
    "its node is silent: unknown, whatever it said last",
    16,
    16,
    { ...fine, xid: 79 },
    "unknown",
    /no sample/,
  ],
  ["missing while its node reports", 1, 16, fine, "unhealthy", /missing/],
  ["a query that failed", 0, 0, none, "unhealthy", /does not answer/],
  [
    "a failed query with an XID of the kernel",
    0,
    0,
    { ...none, xid: 79 },
    "unhealthy",
    /not answer/,
  ],
  ["fallen off the bus", 0, 0, { ...fine, xid: 79 }, "unhealthy", /restart/],
  ["needs a reset", 0, 0, { ...fine, xid: 95 }, "unhealthy", /reset/],
  ["uncorrectable memory errors", 0, 0, { ...fine, xid: 48 }, "unhealthy", /inspection/],
  ["an application's own fault", 0, 0, { ...fine, xid: 31 }, "healthy", /^$/],
  ["an XID to ignore", 0, 0, { ...fine, xid: 43 }, "healthy", /^$/],
  ["too hot", 0, 0, { ...fine, temperatureCelsius: 95 }, "unhealthy", /95 °C/],
] as const)("%s", (_, nodeSilenceS, gpuSilenceS, figures, state, message) => {
  const nowMs = 1_000_000;
  const gpu = {
    ...{ gpu: anId("gpu"), index: 0, model: "M", simulated: false },
    newest: { timeMs: nowMs, figures },
    heardMs: nowMs - gpuSilenceS * 1_000,
  };
  const heardMs = nowMs - nodeSilenceS * 1_000;
  const node = { node: anId("node"), cpuPercent: 1, memoryUsedMib: 1, heardMs, gpus: [gpu] };
  const limits = { staleMs: 15_000, maxTemperatureCelsius: 95 };
  const health = gpuHealth(node, gpu, { nowMs, limits });
  expect(health.state).toBe(state);
  expect(health.message).toMatch(message);
});

test("each XID asks for one action", () => {
  expect([0, 31, 43, 46, 79, 147, 154, 9_999].map(xidAction)).toEqual([
    "none",
    "restart_task",
    "none",
    "reset_gpu",
    "restart_machine",
    "inspect",
    "none",
    "restart_task",
  ]);
});
