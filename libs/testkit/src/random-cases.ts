import fc from "fast-check";

/**
 * Vitest's set-up of every test file: random cases are the same in each run, so that what breaks a
 * test is a change. `FASTGPU_TEST_SEED=random` looks for cases not seen yet, a number for those of
 * that seed; each failure prints the seed it came with.
 */
const asked = process.env["FASTGPU_TEST_SEED"] ?? "1";
if (asked !== "random") fc.configureGlobal({ seed: Number(asked) });
