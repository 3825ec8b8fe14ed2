import { spawn } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { attemptFiles, attemptNames, readOutcome, readStarted } from "../src/keeper/files.ts";
import { farAhead, launchOf, logHas, logOf, makeFiles, makeProcessRuntime } from "./harness.ts";

const worker = fileURLToPath(new URL("./bare-worker.ts", import.meta.url));

/** A worker process that starts one attempt and says so; the test kills it with SIGKILL. */
async function startBareWorker(
  root: string,
  script: string,
  leaseMs: number,
): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, [worker, root, script, String(leaseMs)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once("data", () => resolve());
    child.once("exit", () => reject(new Error("the worker ended early")));
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return async () => {
    child.kill("SIGKILL");
    await gone;
  };
}

function keeperOf(root: string): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (args.includes(root) && args.some((arg) => arg.endsWith("keeper/main.ts"))) {
        return Number(pid);
      }
    } catch {
      // Gone meanwhile.
    }
  }
  return undefined;
}

/** How the attempt ended, for a worker that finds it: before, or while it looks on. */
async function adoptedEnd({ runtime, exit }: ReturnType<typeof makeProcessRuntime>) {
  const [found] = await runtime.list();
  return found?.outcome ?? exit("att-a");
}

test("an attempt outlives a worker killed with SIGKILL and is adopted with its log and exit", async () => {
  const files = makeFiles();
  const script = "echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 5";
  const kill = await startBareWorker(files.root, script, 600_000);
  await kill();
  const t = makeProcessRuntime(files);
  await using runtime = t.runtime;
  expect(await runtime.list()).toEqual([{ name: "att-a", outcome: undefined }]);
  await logHas(t, "att-a", "before");
  writeFileSync(`${attemptFiles(files, "att-a").work}/go`, "");
  expect(await t.exit("att-a")).toMatchObject({ cause: "exit", exitCode: 5 });
  expect((await logOf(files, "att-a")).map((r) => r.text).join("")).toBe("before\nafter\n");
});

test("an exit that happened while no worker lived is found by the next one", async () => {
  const files = makeFiles();
  const kill = await startBareWorker(files.root, "sleep 0.3; exit 4", 600_000);
  await kill();
  const watcher = makeProcessRuntime(files);
  await adoptedEnd(watcher);
  await watcher.runtime[Symbol.asyncDispose]();
  const t = makeProcessRuntime(files);
  await using runtime = t.runtime;
  expect(await runtime.list()).toMatchObject([{ outcome: { cause: "exit", exitCode: 4 } }]);
  await runtime.remove("att-a");
  expect(attemptNames(files)).toEqual([]);
});

test("without a worker the keeper ends an attempt at its lease's end", async () => {
  const files = makeFiles();
  const kill = await startBareWorker(files.root, "sleep 1000", 1_500);
  await kill();
  const t = makeProcessRuntime(files);
  await using _runtime = t.runtime;
  expect((await adoptedEnd(t)).cause).toBe("lease");
});

test("attempts die with their keeper and are reported lost, elements that had ended included", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["sleep", "1000"]), farAhead());
  const script = "[ $FASTGPU_ARRAY_INDEX -lt 4 ] && exit 0; echo block; sleep 1000";
  const array = { ranges: [[0, 10]] as const, slots: 1 };
  await runtime.start(launchOf("att-b", ["/bin/sh", "-c", script], { array }), farAhead());
  await logHas(t, "att-b", "block");
  // The record of elements is flushed every 100 ms; the progress event comes with the same beat.
  while (!existsSync(attemptFiles(t.files, "att-b").elements)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const keeper = keeperOf(t.files.root);
  expect(keeper).toBeDefined();
  process.kill(keeper ?? 0, "SIGKILL");
  expect(await t.exit("att-a")).toMatchObject({ cause: "lost" });
  const lost = await t.exit("att-b");
  expect(lost.cause).toBe("lost");
  expect(lost.elements?.ok).toEqual([[0, 4]]);
  expect(readOutcome(attemptFiles(t.files, "att-a"))?.cause).toBe("lost");
  // A new keeper starts by itself with the next attempt.
  await runtime.start(launchOf("att-c", ["true"]), farAhead());
  expect((await t.exit("att-c")).cause).toBe("exit");
});

test("an ordinary user's processes get what isolation the system allows and die with their keeper too", async () => {
  const readable = (statSync(worker).mode & 0o004) !== 0 && pathIsOpen(worker);
  if (process.getuid?.() !== 0 || !readable) {
    console.log("skipped: needs root, to become an ordinary user who can read the sources");
    return;
  }
  const files = makeFiles();
  for (const dir of [files.root, files.private, files.attempts]) chownSync(dir, 65_534, 65_534);
  openParents(files.root);
  const user = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
  const script = "id -u; while :; do sleep 0.05; done";
  const child = spawn(
    "setpriv",
    [...user, process.execPath, worker, files.root, script, "600000"],
    {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env["PATH"] ?? "", HOME: files.root, TMPDIR: tmpdir() },
    },
  );
  const first = await new Promise<string>((resolve) =>
    child.stdout.once("data", (data: Buffer) => resolve(data.toString())),
  );
  expect(JSON.parse(first)).toMatchObject({ kind: "started" });
  const { pid } = readStarted(attemptFiles(files, "att-a")) ?? { pid: 0 };
  process.kill(keeperOf(files.root) ?? 0, "SIGKILL");
  while (
    existsSync(`/proc/${pid}/cmdline`) &&
    readFileSync(`/proc/${pid}/cmdline`, "utf8") !== ""
  ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  child.kill("SIGKILL");
});

/** Whether every folder above is open to all. */
function pathIsOpen(path: string): boolean {
  for (let dir = dirname(path); dir !== "/"; dir = dirname(dir)) {
    if ((statSync(dir).mode & 0o005) !== 0o005) return false;
  }
  return true;
}

/** Opens the closed folders above a test's own directory for passing through. */
function openParents(path: string): void {
  for (let dir = dirname(path); dir !== "/"; dir = dirname(dir)) {
    const { mode } = statSync(dir);
    if ((mode & 0o011) !== 0o011) chmodSync(dir, mode | 0o011);
  }
}
