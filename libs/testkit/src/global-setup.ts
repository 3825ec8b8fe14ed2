import { makeRunDirectory, removeRunDirectory } from "./run-directory.ts";

/**
 * Vitest's global set-up: one directory a run. The servers start in it when a test first asks
 * (`servers.ts`), so that a run of unit tests alone starts none, and end here.
 */
export default async function setup(): Promise<() => Promise<void>> {
  if (process.env["FASTGPU_TEST_RUN"] !== undefined) return () => Promise.resolve();
  const directory = await makeRunDirectory();
  process.env["FASTGPU_TEST_RUN"] = directory;
  return async () => {
    delete process.env["FASTGPU_TEST_RUN"];
    await removeRunDirectory(directory);
  };
}
