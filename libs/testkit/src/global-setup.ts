import { makeRunDirectory, removeRunDirectory } from "./run-directory.ts";

/**
 * Vitest's global set-up: one directory a run. The servers start in it when a test first asks
 * (`servers.ts`), so that a run of unit tests alone starts none, and end here.
 */
export default async function setup(): Promise<() => Promise<void>> {
  if (process.env["FASTGPU_TEST_RUN"] !== undefined) return () => Promise.resolve();
  const directory = await makeRunDirectory();
  const before = process.env["TMPDIR"];
  process.env["FASTGPU_TEST_RUN"] = directory;
  // Whatever a test leaves in the directory for temporary files goes with the run.
  process.env["TMPDIR"] = directory;
  return async () => {
    delete process.env["FASTGPU_TEST_RUN"];
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
    await removeRunDirectory(directory);
  };
}
