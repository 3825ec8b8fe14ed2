import { createLogger } from "@fastgpu/telemetry/log";
import { expect, test } from "vitest";
import { createMonotonicClock, startDatabaseClock } from "./clock.ts";

const log = createLogger({ service: "test", level: "silent" });

test("suspend is counted, once it exceeds the resolution", () => {
  let running = 5_000;
  let sinceBoot = 90_000;
  const clock = createMonotonicClock({ runningMs: () => running, sinceBootMs: () => sinceBoot });
  const start = clock.nowMs();
  running += 100;
  sinceBoot += 100;
  expect(clock.nowMs() - start).toBe(100);
  sinceBoot += 60_000;
  const slept = clock.nowMs() - start;
  expect(slept).toBeGreaterThanOrEqual(60_080);
  expect(slept).toBeLessThanOrEqual(60_100);
  running += 1;
  sinceBoot += 1;
  expect(clock.nowMs() - start - slept).toBe(1);
});

/** A database at `offset` from our clock, whose answers take `delay` each way. */
async function scenario(delays: readonly { there: number; back: number; offset: number }[]) {
  let mono = 0;
  let call = 0;
  const stop = new AbortController();
  stop.abort();
  const clock = await startDatabaseClock({
    stop: stop.signal,
    log,
    monotonic: { nowMs: () => mono },
    readDatabaseMs: () => {
      const delay = delays[call];
      call += 1;
      if (delay === undefined) return Promise.reject(new Error("no more answers"));
      mono += delay.there;
      const answer = mono + delay.offset;
      mono += delay.back;
      return Promise.resolve(answer);
    },
  });
  return { clock, advance: (ms: number) => (mono += ms), mono: () => mono };
}

test("the bound holds the true time, even with a lopsided round trip", async () => {
  const { clock, mono } = await scenario([{ there: 30, back: 2, offset: 1_000_000 }]);
  const truth = mono() + 1_000_000;
  expect(Math.abs(truth - clock.nowMs())).toBeLessThanOrEqual(clock.uncertaintyMs());
  expect(clock.uncertaintyMs()).toBe(16);
});

test("a slow answer does not replace a better estimate, and the bound grows with drift", async () => {
  const { clock, advance } = await scenario([
    { there: 1, back: 1, offset: 1_000_000 },
    { there: 500, back: 0, offset: 1_000_000 },
  ]);
  advance(10_000);
  await clock.synchronise();
  expect(clock.uncertaintyMs()).toBeGreaterThan(2);
  expect(clock.uncertaintyMs()).toBeLessThan(10);
});

test("time never goes back, and a database clock set back shows as uncertainty", async () => {
  const { clock } = await scenario([
    { there: 1, back: 1, offset: 1_000_000 },
    { there: 1, back: 1, offset: 900_000 },
  ]);
  const before = clock.nowMs();
  await clock.synchronise();
  expect(clock.nowMs()).toBe(before);
  expect(clock.uncertaintyMs()).toBeGreaterThan(99_000);
});
