import { beginRun } from "./run-directory.ts";

/**
 * Vitest's global set-up: one directory a run, or that of the run of all projects that this one is part of. The servers
 * start in it when a test first asks (`servers.ts`), so that a run of unit tests alone starts none, and end with it.
 */
export default async function setup(): Promise<() => Promise<void>> {
  if (process.env["FASTGPU_TEST_RUN"] !== undefined) return () => Promise.resolve();
  return beginRun();
}
