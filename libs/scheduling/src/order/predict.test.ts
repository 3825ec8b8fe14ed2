import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RunTimePredictor } from "./predict.ts";

const minute = 60_000;
const hour = 60 * minute;

/** A predictor that has seen these runs of one kind. */
function learned(keys: readonly string[], runsMs: readonly number[]): RunTimePredictor {
  const predictor = new RunTimePredictor();
  for (const runMs of runsMs) predictor.observe(keys, runMs, undefined);
  return predictor;
}

const times = (count: number, runMs: number): number[] =>
  Array.from({ length: count }, () => runMs);

describe("predicting run times", () => {
  test("without history there is no prediction; of a task that runs, that it runs on for as long", () => {
    const predictor = new RunTimePredictor();
    expect(predictor.predict(["a/1", "a", "*"])).toBeUndefined();
    expect(predictor.predict(["a/1", "a", "*"], hour)).toMatchObject({
      p50Ms: 2 * hour,
      p90Ms: 10 * hour,
      runs: 0,
      level: 3,
    });
  });

  test("the closest history with enough runs answers, and its quantiles bracket what was seen", () => {
    const predictor = learned(["a/8", "a", "*"], times(20, hour));
    for (const runMs of times(20, minute)) {
      predictor.observe(["b/1", "b", "*"], runMs, undefined);
    }
    const close = predictor.predict(["a/8", "a", "*"])!;
    expect(close.level).toBe(0);
    expect(close.p10Ms).toBeGreaterThan(hour / 1.2);
    expect(close.p50Ms).toBeGreaterThanOrEqual(close.p10Ms);
    expect(close.p90Ms).toBeGreaterThanOrEqual(hour);
    expect(close.p90Ms).toBeLessThan(hour * 1.2);
    expect(predictor.predict(["a/2", "a", "*"])?.level).toBe(1);
    expect(predictor.predict(["c/8", "c", "*"])?.level).toBe(2);
  });

  test("of a task that has outlived the short runs, only the long ones count", () => {
    const kind = ["a/1", "a", "*"];
    const predictor = learned(kind, [...times(30, minute), ...times(30, 10 * hour)]);
    expect(predictor.predict(kind)!.p10Ms).toBeLessThan(2 * minute);
    expect(predictor.predict(kind, hour)!.p10Ms).toBeGreaterThan(8 * hour);
    expect(predictor.predict(kind, 100 * hour)).toMatchObject({ level: 3 });
  });

  test("where a key may not be told, history behind it is not used", () => {
    const predictor = learned(["a/1", "a"], times(20, hour));
    expect(predictor.predict(["b/1", "b"])).toBeUndefined();
  });

  test("quantiles come in order, and none is before what has been run", () => {
    const run = fc.integer({ min: 0, max: 4_000 * hour });
    fc.assert(
      fc.property(fc.array(run, { minLength: 1, maxLength: 60 }), run, (runs, elapsed) => {
        const kind = ["a/1", "a", "*"];
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
    const kind = ["a/1", "a", "*"];
    const run = (runMs: number) => predictor.observe(kind, runMs, predictor.predict(kind));
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

  test("forgets the key of which nothing has ended for longest", () => {
    const predictor = new RunTimePredictor({ maxKeys: 2 });
    const run = (key: string) => predictor.observe([key], minute, undefined).forgotten;
    for (const key of ["a", "b", "a", "a", "a", "a"]) expect(run(key)).toEqual([]);
    expect(run("c")).toEqual(["b"]);
    expect(predictor.predict(["a"])).toBeDefined();
  });
});
