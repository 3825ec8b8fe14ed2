import { createLogger } from "@fastgpu/telemetry/log";
import { expect, test } from "vitest";
import { startLoop } from "./loop.ts";
import type { LoopNext } from "./loop.ts";

const log = createLogger({ service: "test", level: "silent" });
const never = new AbortController().signal;
const hourMs = 3_600_000;

/** Steps that a test lets through one by one. */
function gate() {
  const started: PromiseWithResolvers<void>[] = [];
  const finish: PromiseWithResolvers<LoopNext>[] = [];
  const at = <T>(list: PromiseWithResolvers<T>[], i: number): PromiseWithResolvers<T> =>
    (list[i] ??= Promise.withResolvers<T>());
  let steps = 0;
  return {
    step: () => {
      const i = steps;
      steps += 1;
      at(started, i).resolve();
      return at(finish, i).promise;
    },
    started: (i: number) => at(started, i).promise,
    finish: (i: number, next: LoopNext) => at(finish, i).resolve(next),
    fail: (i: number) => at(finish, i).reject(new Error(`step ${i}`)),
    count: () => steps,
  };
}

test("wakes during a step lead to exactly one more", async () => {
  const steps = gate();
  await using loop = startLoop({ name: "t", stop: never, log, idleMs: hourMs, step: steps.step });
  await steps.started(0);
  loop.wake();
  loop.wake();
  loop.wake();
  steps.finish(0, "idle");
  await steps.started(1);
  steps.finish(1, "idle");
  await new Promise(setImmediate);
  expect(steps.count()).toBe(2);
  loop.wake();
  await steps.started(2);
  steps.finish(2, "idle");
});

test("again runs the next step without a wake", async () => {
  const steps = gate();
  await using _loop = startLoop({ name: "t", stop: never, log, idleMs: hourMs, step: steps.step });
  steps.finish(0, "again");
  await steps.started(1);
  steps.finish(1, "idle");
});

test("a failing step is tried again after its backoff, and wakes do not shorten it", async () => {
  const steps = gate();
  await using loop = startLoop({
    name: "t",
    stop: never,
    log,
    idleMs: hourMs,
    step: steps.step,
    backoffMs: { first: 20, max: 40 },
    random: () => 0,
  });
  await steps.started(0);
  steps.fail(0);
  await new Promise(setImmediate);
  loop.wake();
  await new Promise(setImmediate);
  expect(steps.count()).toBe(1);
  await steps.started(1);
  steps.finish(1, "idle");
});

test("aborting ends a sleeping loop at once, and done resolves", async () => {
  const controller = new AbortController();
  const loop = startLoop({
    name: "t",
    stop: controller.signal,
    log,
    idleMs: hourMs,
    step: () => Promise.resolve("idle"),
  });
  controller.abort();
  await loop.done;
});
