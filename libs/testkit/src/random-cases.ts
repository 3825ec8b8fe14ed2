import fc from "fast-check";
import { expect } from "vitest";

/**
 * Vitest's set-up of every test file: random cases are the same in each run, so that what breaks a
 * test is a change. `FASTGPU_TEST_SEED=random` looks for cases not seen yet, a number for those of
 * that seed; each failure prints the seed it came with.
 */
const asked = process.env["FASTGPU_TEST_SEED"] ?? "1";
if (asked !== "random") fc.configureGlobal({ seed: Number(asked) });

/**
 * Expects that something has come up more than so often: a promise about what never does would be kept too. How often it
 * does in other random cases is chance.
 */
export function expectSeen(times: number, moreThan: number, what = "cases"): void {
  if (asked === "1") expect(times, what).toBeGreaterThan(moreThan);
}
