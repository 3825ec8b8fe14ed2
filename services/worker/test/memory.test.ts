import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { attemptFiles, readStarted } from "../src/keeper/files.ts";
import { farAhead, launchOf, logOf, makeProcessRuntime } from "./harness.ts";

const limits = { cpuMillis: 0, memoryMib: 512, pids: 0 };
const node = (script: string): string[] => [process.execPath, "-e", script];
/** Touches every page, then stays: whoever is not killed is seen. */
const hog =
  "globalThis.kept = Buffer.alloc(2 ** 30, 1); console.log('has it'); setTimeout(() => {}, 600_000);";

// A child process that shares all of a parent's pages holds nothing of its own.
const sharing =
  "import os,time\nkept = bytearray(b'x') * (200 * 2**20)\nfor i in range(4):\n  if os.fork() == 0: time.sleep(1); os._exit(0)\nfor i in range(4): os.wait()";

for (const controlGroups of ["auto", "off"] as const) {
  test(`control groups ${controlGroups}: Node runs within 512 MiB, 1 GiB ends as out of memory`, async () => {
    const t = makeProcessRuntime(undefined, { controlGroups });
    await using runtime = t.runtime;
    await runtime.start(launchOf("att-a", node("console.log('ran')"), { limits }), farAhead());
    expect(await t.exit("att-a")).toMatchObject({ cause: "exit", exitCode: 0, oom: false });
    expect((await logOf(t.files, "att-a")).map((r) => r.text)).toEqual(["ran\n"]);
    await runtime.start(launchOf("att-b", node(hog), { limits }), farAhead());
    const { isolation = [] } = readStarted(attemptFiles(t.files, "att-b")) ?? {};
    expect(isolation.some((i) => i === "cgroup_memory" || i === "memory_by_sampling")).toBe(true);
    if (controlGroups === "off") expect(isolation).toContain("memory_by_sampling");
    expect(await t.exit("att-b")).toMatchObject({ cause: "exit", exitCode: 137, oom: true });
    await runtime.start(launchOf("att-c", ["sh", "-c", "kill -9 $$"], { limits }), farAhead());
    expect(await t.exit("att-c")).toMatchObject({ exitCode: 137, oom: false });
  });
}

test("watched memory counts shared pages once, and an element that takes too much ends alone", async () => {
  const t = makeProcessRuntime(undefined, { controlGroups: "off" });
  await using runtime = t.runtime;
  if (spawnSync("python3", ["-c", ""]).status === 0) {
    await runtime.start(launchOf("att-a", ["python3", "-c", sharing], { limits }), farAhead());
    expect(await t.exit("att-a")).toMatchObject({ exitCode: 0, oom: false });
  } else console.log("skipped: no python3 to share pages with");
  const script = `[ $FASTGPU_ARRAY_INDEX != 1 ] || exec '${process.execPath}' -e "${hog}"`;
  const array = { ranges: [[0, 4]] as const, slots: 2 };
  await runtime.start(launchOf("att-b", ["sh", "-c", script], { limits, array }), farAhead());
  expect((await t.exit("att-b")).elements).toMatchObject({
    ok: [
      [0, 1],
      [2, 4],
    ],
    oom: [[1, 2]],
  });
});
