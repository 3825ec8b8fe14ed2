import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { createKnownPrices } from "./known-prices.ts";

const times = { leaseTtlMs: 10_000, skewMs: 1_000, marginMs: 1_000, coverMs: 60_000 };
const h200 = { model: "NVIDIA H200", simulated: false };
const simulated = { model: "NVIDIA H100", simulated: true };
const dollars = (usd: number): bigint => BigInt(usd * 1e9);
/** An hour costs so many USD, so a first lease of 12 s and 3.588 s of grace costs so many times 4,330,000 nano-USD. */
const hourly = new Map([
  ["gpu.simulated", dollars(1)],
  ["gpu.generic", dollars(2)],
  ["gpu.a100", dollars(3)],
  ["gpu.h100", dollars(4)],
  ["gpu.h200", dollars(5)],
]);
const unit = 4_330_000n;

const base = {
  ...({ runtime: "process" } as const),
  ...{ gpuCount: 1, gpuModels: [] as string[], gpuMinMemoryMib: 0, simulatedOk: true },
  ...{ cpuMillis: 1_000, memoryMib: 64, diskMib: 0 },
};
const asks = (maxCostNanos: bigint, demand: object = {}, replicas = 1) => ({
  ...{ demand: { ...base, ...demand }, replicas, stopGraceMs: 3_588, maxCostNanos },
});

function known(kinds: readonly { model: string; simulated: boolean }[], prices = hourly) {
  const calls = { count: 0, nowMs: 0, fails: false, hourlyNanos: prices };
  const check = createKnownPrices({
    load: () => {
      calls.count++;
      const { hourlyNanos } = calls;
      return calls.fails
        ? Promise.reject(new Error("away"))
        : Promise.resolve({ hourlyNanos, kinds });
    },
    ...{ times, clock: { nowMs: () => calls.nowMs }, log: quiet },
  });
  return { calls, check: (task: ReturnType<typeof asks>) => check.check(task) };
}

test("what does not pay for the first lease on the cheapest GPU of the fleet that would do is refused, with the least", async () => {
  const { check } = known([h200, simulated]);
  await check(asks(unit));
  await expect(check(asks(unit - 1n))).rejects.toMatchObject({
    ...{ reason: "INVALID_FIELD", violations: [{ field: "task.spec.max_cost.nanos" }] },
    message: expect.stringContaining("the cheapest needs 0.00433 USD"),
  });
  await expect(check(asks(unit, { simulatedOk: false }))).rejects.toThrow("needs 0.02165 USD");
  await expect(check(asks(2n * unit, { gpuCount: 2 }, 2))).rejects.toThrow("needs 0.01732 USD");
  await check(asks(4n * unit, { gpuCount: 2 }, 2));
  await check(asks(1n, { gpuCount: 0 }));
});

test("of GPUs that the fleet never had the price list speaks", async () => {
  const { check } = known([h200]);
  const a100 = { gpuModels: ["NVIDIA A100"], simulatedOk: false };
  await check(asks(3n * unit, a100));
  await expect(check(asks(3n * unit - 1n, a100))).rejects.toThrow("needs 0.01299 USD");
  await expect(known([]).check(asks(unit - 1n))).rejects.toThrow("needs 0.00433 USD");
});

test("nothing is refused where a kind that would do has no price, or prices cannot be had", async () => {
  const { check } = known([h200, simulated], new Map([["gpu.h200", dollars(5)]]));
  await check(asks(1n));
  const away = known([h200]);
  away.calls.fails = true;
  await away.check(asks(1n));
});

test("submits ask nobody once prices are known, but for one that old prices would refuse", async () => {
  const { check, calls } = known([h200]);
  await check(asks(5n * unit));
  for (let at = 0; at < 100; at++) await check(asks(5n * unit));
  expect(calls.count).toBe(1);
  await expect(check(asks(4n * unit))).rejects.toThrow("needs 0.02165 USD");
  expect(calls.count).toBe(1);
  // It has become cheaper.
  calls.nowMs = 6_000;
  calls.hourlyNanos = new Map([["gpu.h200", dollars(4)]]);
  await check(asks(4n * unit));
  expect(calls.count).toBe(2);
});
