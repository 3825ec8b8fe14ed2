import { readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "./signals.ts";

/** What the name of a test run's directory begins with. */
export const RUN_PREFIX = "fastgpu-test-";
/** What every name begins with that our programs give to temporary files. */
const PREFIX = "fastgpu-";
/** Names that are none of the tests': other runs', experiments', checks'. */
const BESIDE = [RUN_PREFIX, "fastgpu-bench-", "fastgpu-gen-"];
/** Where the database of a directory lies that its user cannot enter. */
const CLUSTERS = "/var/lib/fastgpu/pg";

/** What our programs have in the machine's directories for temporary files. */
async function temporaryFiles(directories: ReadonlySet<string>): Promise<string[]> {
  const found: string[] = [];
  for (const directory of directories)
    for (const name of await readdir(directory).catch(() => []))
      if (name.startsWith(PREFIX) && !BESIDE.some((other) => name.startsWith(other)))
        found.push(join(directory, name));
  return found;
}

/** Databases of data directories below this one. */
async function clustersOf(run: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await readdir(CLUSTERS).catch(() => [])) {
    const owner = await readFile(join(CLUSTERS, name, "data-directory"), "utf8").catch(() => "");
    if (owner.startsWith(`${run}/`)) found.push(join(CLUSTERS, name));
  }
  return found;
}

/**
 * Notes what is there before a test run whose files lie below `run`. The answer rejects, after the run, with the paths
 * of what came since. What others use or make at the same time does not count: directories in which a process listens
 * on a socket, and what goes within ten seconds.
 */
export async function watchLeftovers(run: string): Promise<() => Promise<void>> {
  const directories = new Set([tmpdir(), "/tmp"]);
  const before = new Set(await temporaryFiles(directories));
  const left = async (): Promise<string[]> => {
    const sockets = await readFile("/proc/net/unix", "utf8").catch(() => "");
    const came = (await temporaryFiles(directories)).filter(
      (path) => !before.has(path) && !sockets.includes(` ${path}/`),
    );
    return [...came, ...(await clustersOf(run))];
  };
  return async () => {
    const nothing = async (): Promise<boolean> => (await left()).length === 0;
    await eventually("nothing left", nothing, 10_000).catch(async () => {
      throw new Error(
        `the tests left ${(await left()).join(", ")}: temporary files belong below os.tmpdir(), ` +
          "so a child process needs this one's TMPDIR",
      );
    });
  };
}
