import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunTimePredictor } from "./predict.ts";
import type { TaskKind } from "./predict.ts";

const minute = 60_000;
const hour = 60 * minute;

/** A predictor that has seen so many runs of one kind. */
function learned(kind: TaskKind, runsMs: readonly number[]): RunTimePredictor {
  const predictor = new RunTimePredictor();
  for (const runMs of runsMs) predictor.observe(kind, runMs, undefined);
  return predictor;
}

const times = (count: number, runMs: number): number[] =>
  Array.from({ length: count }, () => runMs);

describe("predicting run times", () => {
  test("without history there is no prediction; of a task that runs, that it runs on for as long", () => {
    const predictor = new RunTimePredictor();
    expect(predictor.predict({ tenant: "a", shape: 1 })).toBeUndefined();
    expect(predictor.predict({ tenant: "a", shape: 1 }, hour)).toMatchObject({
      p50Ms: 2 * hour,
      p90Ms: 10 * hour,
      samples: 0,
      basis: "elapsed",
    });
  });

  test("the closest history with enough runs answers, and its quantiles bracket what was seen", () => {
    const predictor = learned({ tenant: "a", shape: 8 }, times(20, hour));
    for (const runMs of times(20, minute)) {
      predictor.observe({ tenant: "b", shape: 1 }, runMs, undefined);
    }
    const close = predictor.predict({ tenant: "a", shape: 8 })!;
    expect(close.basis).toBe("shape");
    expect(close.p10Ms).toBeGreaterThan(hour / 1.2);
    expect(close.p50Ms).toBeGreaterThanOrEqual(close.p10Ms);
    expect(close.p90Ms).toBeGreaterThanOrEqual(hour);
    expect(close.p90Ms).toBeLessThan(hour * 1.2);
    expect(predictor.predict({ tenant: "a", shape: 2 })?.basis).toBe("tenant");
    expect(predictor.predict({ tenant: "c", shape: 8 })?.basis).toBe("everybody");
  });

  test("of a task that has outlived the short runs, only the long ones count", () => {
    const kind = { tenant: "a", shape: 1 };
    const predictor = learned(kind, [...times(30, minute), ...times(30, 10 * hour)]);
    expect(predictor.predict(kind)!.p10Ms).toBeLessThan(2 * minute);
    expect(predictor.predict(kind, hour)!.p10Ms).toBeGreaterThan(8 * hour);
    expect(predictor.predict(kind, 100 * hour)).toMatchObject({ basis: "elapsed" });
  });

  test("a tenant's name cannot borrow another's history", () => {
    const predictor = learned({ tenant: "a", shape: "x" }, times(20, hour));
    expect(predictor.predict({ tenant: "a x", shape: "" })?.basis).toBe("everybody");
    expect(predictor.predict({ tenant: '"a"', shape: "x" })?.basis).toBe("everybody");
  });

  test("quantiles come in order, and none is before what has been run", () => {
    const run = fc.integer({ min: 0, max: 4_000 * hour });
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 60 }), run, (runs, elapsed) => {
        const kind = { tenant: "a", shape: 1 };
        const made = learned(kind, runs).predict(kind, elapsed);
        if (made === undefined) return;
        expect(made.p10Ms).toBeGreaterThanOrEqual(elapsed);
        expect(made.p50Ms).toBeGreaterThanOrEqual(made.p10Ms);
        expect(made.p90Ms).toBeGreaterThanOrEqual(made.p50Ms);
      }),
    );
  });

  test("its error is reported: exact history is within a bucket, a change of habit shows", () => {
    const predictor = new RunTimePredictor();
    const kind = { tenant: "a", shape: 1 };
    const run = (runMs: number): void => predictor.observe(kind, runMs, predictor.predict(kind));
    for (let count = 0; count < 50; count++) run(10 * minute);
    const steady = predictor.error();
    expect(steady.unpredicted).toBeGreaterThan(0);
    expect(steady.medianAbsDoublings).toBeLessThan(0.25);
    expect(steady.rangeCoverage).toBe(1);
    for (let count = 0; count < 5; count++) run(40 * minute);
    const changed = predictor.error();
    expect(changed.biasDoublings).toBeGreaterThan(steady.biasDoublings + 0.1);
    expect(changed.p90Coverage).toBeLessThan(steady.p90Coverage);
    expect(changed.rangeCoverage).toBeLessThan(1);
    expect(changed.meanAbsDoublings).toBeGreaterThan(changed.medianAbsDoublings);
  });
});
