import { describe, expect, test } from "vitest";
import { RunTimePredictor } from "./predict.ts";

describe("predicting run times", () => {
  test("without history there is no prediction", () => {
    expect(new RunTimePredictor().predict(["a/1", "a", "*"])).toBeUndefined();
  });

  test("the closest key with enough runs answers, and its quantiles bracket what was seen", () => {
    const predictor = new RunTimePredictor();
    for (let run = 0; run < 20; run++) predictor.observe(["a/8", "a", "*"], 3_600_000, undefined);
    for (let run = 0; run < 20; run++) predictor.observe(["b/1", "b", "*"], 60_000, undefined);
    const close = predictor.predict(["a/8", "a", "*"]);
    expect(close?.level).toBe(0);
    expect(close?.p50Ms).toBeGreaterThan(3_600_000 / 1.2);
    expect(close?.p90Ms).toBeLessThan(3_600_000 * 1.2);
    expect(predictor.predict(["c/8", "c", "*"])?.level).toBe(2);
  });

  test("its error is reported: exact history is within a bucket, a change of habit shows", () => {
    const predictor = new RunTimePredictor();
    const keys = ["a"];
    for (let run = 0; run < 50; run++) predictor.observe(keys, 600_000, predictor.predict(keys));
    const steady = predictor.error();
    expect(steady.unpredicted).toBeGreaterThan(0);
    expect(steady.meanAbsDoublings).toBeLessThan(0.25);
    for (let run = 0; run < 5; run++) predictor.observe(keys, 2_400_000, predictor.predict(keys));
    const changed = predictor.error();
    expect(changed.biasDoublings).toBeGreaterThan(steady.biasDoublings + 0.1);
    expect(changed.p90Coverage).toBeLessThan(steady.p90Coverage);
  });
});
