import { mkdirSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { findCgroupHost } from "../src/keeper/cgroup.ts";
import { createKeeperClient } from "../src/keeper/client.ts";
import { attemptFiles, readStarted } from "../src/keeper/files.ts";
import { writeTaskScript } from "../src/keeper/task-script.ts";
import { createProcessRuntime } from "../src/runtime/process/runtime.ts";
import { farAhead, launchOf, logOf, makeFiles, makeProcessRuntime, observe } from "./harness.ts";

/** Every byte that text can hold, and what shells treat specially. */
const awkward = [
  "'\"\\$(echo no)`echo no`\n\t*?[a]~!#&|;<>{} ",
  Array.from({ length: 255 }, (_, i) => String.fromCharCode(i + 1)).join(""),
  "ÁÅ\u0081\u0088 – 漢字 🙂",
  "",
  "-n",
];
const print =
  "process.stdout.write(JSON.stringify([process.argv.slice(1), process.env, process.cwd()]))";

test.each(["child", "replace", "lane"] as const)(
  "a task's words, variables and folder arrive as they are (%s)",
  (how) => {
    const folder = mkdtempSync(join(tmpdir(), 'fastgpu-it\'s a "folder" $x-'));
    const env = {
      ...Object.fromEntries(awkward.map((text, n) => [`V${n}`, text])),
      "with.dot-and-dash": "1",
      IFS: "x",
      UID: "7",
      PS4: "$(false)",
    };
    const path = join(folder, "run.sh");
    const command = [process.execPath, "-e", print, "--", ...awkward];
    writeTaskScript(path, { workdir: folder, env, command, how, checkpoints: undefined });
    const lanes = join(folder, "lanes");
    writeFileSync(lanes, "3\n");
    const ran = spawnSync("/bin/sh", ["-c", `exec 4<"$1" 5>/dev/null; . "$0"`, path, lanes], {
      env: {},
      encoding: "utf8",
    });
    const [words, variables, cwd] = JSON.parse(ran.stdout) as [string[], object, string];
    expect(words).toEqual(awkward);
    expect(variables).toMatchObject(how === "lane" ? { ...env, FASTGPU_ARRAY_INDEX: "3" } : env);
    expect(cwd).toBe(folder);
  },
);

test("a sandbox that waits is used once, is as good as a new one, and a killed one is not used", async () => {
  const files = makeFiles();
  const late = join(files.root, "made-later");
  const keeper = createKeeperClient({ files, idleMs: 1_000, hide: [late] });
  const t = observe(files, keeper, createProcessRuntime({ files, keeper }));
  await using runtime = t.runtime;
  const limits = { cpuMillis: 500, memoryMib: 64, pids: 50 };
  const look = ["sh", "-c", `ls ${late}; echo $$; ulimit -c; cat /proc/self/cgroup`];
  const isolation: (readonly string[] | undefined)[] = [];
  for (const name of ["att-a", "att-b", "att-c"]) {
    // Between the spare's making and its use: what is to be hidden by now is hidden.
    if (name === "att-b") {
      mkdirSync(late);
      writeFileSync(join(late, "secret"), "x");
    }
    const waiting = name === "att-a" ? [] : await spareOf(files.root);
    if (name === "att-c") {
      for (const pid of waiting) process.kill(pid, "SIGKILL");
      while (waiting.some(isRunning)) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await runtime.start(launchOf(name, look, { limits }), farAhead());
    expect(await t.exit(name)).toMatchObject({ cause: "exit", exitCode: 0 });
    const started = readStarted(attemptFiles(files, name));
    isolation.push(started?.isolation);
    const text = (await logOf(files, name)).map((r) => r.text).join("");
    if (started?.isolation.includes("hidden_folders") === true)
      expect(text).not.toContain("secret");
  }
  expect(isolation[1]).toEqual(isolation[0]);
  expect(isolation[2]).toEqual(isolation[0]);
});

/** Processes of the keeper's sandbox that waits, outermost first; waits until there is one. */
async function spareOf(root: string): Promise<number[]> {
  for (;;) {
    const keeper = pidsWith(
      (args) => args.includes(root) && args.some((a) => a.includes("keeper")),
    );
    const children = keeper.flatMap((pid) => childrenIn(pid));
    if (children.length > 0) return children;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

function childrenIn(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

function pidsWith(accepts: (args: string[]) => boolean): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return accepts(readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0"));
      } catch {
        return false;
      }
    });
}

test("control groups of a killed keeper's spare are removed by the next keeper", async () => {
  const host = findCgroupHost();
  if (host === undefined) {
    console.log("skipped: no writable control groups here");
    return;
  }
  const parent = Object.values(host.parents)[0] ?? "";
  const groups = (): string[] => readdirSync(parent).filter((name) => name.startsWith("fastgpu-"));
  const files = makeFiles();
  const t = makeProcessRuntime(files);
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["true"]), farAhead());
  await t.exit("att-a");
  await spareOf(files.root);
  const [keeper] = pidsWith(
    (args) => args.includes(files.root) && args.some((a) => a.includes("keeper")),
  );
  const left = (): string[] => groups().filter((name) => name.includes(`-${keeper}-`));
  process.kill(keeper ?? 0, "SIGKILL");
  const next = makeProcessRuntime(files);
  await using second = next.runtime;
  await second.start(launchOf("att-b", ["true"]), farAhead());
  await next.exit("att-b");
  await vi.waitFor(() => expect(left()).toEqual([]), { timeout: 10_000 });
});
