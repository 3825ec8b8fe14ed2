import { existsSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endLeftovers } from "@fastgpu/lifecycle/child";
import { RUN_PREFIX, watchLeftovers } from "./leftovers.ts";

/**
 * Begins a test run: makes its directory, and makes it the directory for temporary files of this process and its
 * children. The answer ends the run: servers and directory go, and it rejects where the tests left anything elsewhere.
 */
export async function beginRun(): Promise<() => Promise<void>> {
  await removeDeadRuns();
  const directory = await mkdtemp(join(tmpdir(), RUN_PREFIX));
  const nothingLeft = await watchLeftovers(directory);
  // As /tmp itself: other users of the machine (the database's, a sandboxed task's) get in.
  await chmod(directory, 0o1777);
  await writeFile(join(directory, "namespace"), await processNamespace());
  await writeFile(join(directory, "owner"), String(process.pid));
  const before = process.env["TMPDIR"];
  process.env["FASTGPU_TEST_RUN"] = directory;
  process.env["TMPDIR"] = directory;
  return async () => {
    delete process.env["FASTGPU_TEST_RUN"];
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
    await removeRunDirectory(directory);
    await nothingLeft();
  };
}

/** Process ids mean something only within it: runs in containers may share the directory for temporary files. */
async function processNamespace(): Promise<string> {
  return readlink("/proc/self/ns/pid").catch(() => "");
}

/** Ends the servers of a run and removes its directory. */
async function removeRunDirectory(directory: string): Promise<void> {
  await endLeftovers(
    (info) =>
      info.cwd.startsWith(`${directory}/`) ||
      info.args.some((arg) => arg.startsWith(`${directory}/`)),
    [{ signal: "SIGQUIT", waitMs: 5_000 }],
  );
  await rm(directory, { recursive: true, force: true });
}

/** What runs that were killed left behind, as far as we can tell that they are dead. */
async function removeDeadRuns(): Promise<void> {
  const here = await processNamespace();
  for (const name of await readdir(tmpdir())) {
    if (!name.startsWith(RUN_PREFIX)) continue;
    const directory = join(tmpdir(), name);
    const read = (file: string): Promise<string | undefined> =>
      readFile(join(directory, file), "utf8").catch(() => undefined);
    const owner = await read("owner");
    if (owner === undefined || existsSync(`/proc/${owner}`)) continue;
    if (((await read("namespace")) ?? here) !== here) continue;
    await removeRunDirectory(directory);
  }
}

/**
 * Makes something once for all processes of a run: the first caller makes it, the others wait and
 * read the text that it left. A failure of the maker fails the waiters as well.
 */
export async function oncePerRun(
  directory: string,
  key: string,
  make: () => Promise<string>,
): Promise<string> {
  const done = join(directory, `${key}.done`);
  try {
    await mkdir(join(directory, `${key}.lock`));
  } catch {
    return waitFor(done);
  }
  const draft = `${done}.draft`;
  try {
    await writeFile(draft, JSON.stringify({ value: await make() }));
  } catch (error) {
    await writeFile(draft, JSON.stringify({ error: String(error) }));
    await rename(draft, done);
    throw error;
  }
  await rename(draft, done);
  return waitFor(done);
}

async function waitFor(done: string): Promise<string> {
  const deadline = performance.now() + 120_000;
  while (performance.now() < deadline) {
    const text = await readFile(done, "utf8").catch(() => undefined);
    if (text !== undefined) {
      const outcome: unknown = JSON.parse(text);
      if (typeof outcome === "object" && outcome !== null && "value" in outcome)
        return String(outcome.value);
      throw new Error(`another test process failed: ${text}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`nobody made ${done} in time`);
}
