import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { bootMs } from "../src/boot-time.ts";
import { attemptFiles, prepareWorkerFiles, readStarted, workerFiles } from "../src/keeper/files.ts";
import { countOf } from "../src/ranges.ts";
import { farAhead, launchOf, logHas, logOf, makeFiles, makeProcessRuntime } from "./harness.ts";

const sh = (script: string): string[] => ["/bin/sh", "-c", script];

test("a command's streams are kept apart and in order, and its exit code is seen", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = "echo one; echo two >&2; sleep 0.1; echo three; exit 7";
  const started = await runtime.start(launchOf("att-a", sh(script)), farAhead());
  expect(started.kind).toBe("started");
  const outcome = await t.exit("att-a");
  expect(outcome).toMatchObject({ cause: "exit", exitCode: 7, oom: false });
  const log = await logOf(t.files, "att-a");
  expect(log.map((r) => r.text).join("")).toContain("three");
  expect(log.filter((r) => r.stream === "stderr").map((r) => r.text)).toEqual(["two\n"]);
  expect(log.findIndex((r) => r.text.includes("one"))).toBeLessThan(
    log.findIndex((r) => r.text.includes("three")),
  );
});

test("starting the same attempt twice runs it once", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const launch = launchOf("att-a", sh("echo ran"));
  await Promise.all([runtime.start(launch, farAhead()), runtime.start(launch, farAhead())]);
  await t.exit("att-a");
  await runtime.start(launch, farAhead());
  expect((await logOf(t.files, "att-a")).map((r) => r.text)).toEqual(["ran\n"]);
});

test("a task can open /dev/stdout and /dev/stderr again", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(
    launchOf("att-a", sh("echo x > /dev/stdout; echo y > /dev/stderr")),
    farAhead(),
  );
  expect((await t.exit("att-a")).exitCode).toBe(0);
  expect(await logOf(t.files, "att-a")).toMatchObject([
    { stream: "stdout", text: "x\n" },
    { stream: "stderr", text: "y\n" },
  ]);
});

test("nothing of the worker's own environment reaches a task", async () => {
  process.env["LD_FASTGPU_PROBE"] = "1";
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(
    launchOf("att-a", ["env"], { env: { PATH: "/usr/bin:/bin", A: "1" } }),
    farAhead(),
  );
  await t.exit("att-a");
  const text = (await logOf(t.files, "att-a")).map((r) => r.text).join("");
  const names = text
    .trim()
    .split("\n")
    .map((line) => line.split("=")[0]);
  expect(
    names.filter(
      (n) =>
        ![
          "PATH",
          "A",
          "PWD",
          "HOME",
          "TMPDIR",
          "FASTGPU_PROGRESS_FD",
          "FASTGPU_PROGRESS_FILE",
          "OLDPWD",
          "_",
          "SHLVL",
        ].includes(n ?? ""),
    ),
  ).toEqual([]);
});

test("a command that does not exist or may not be executed is rejected, and says what to do", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const plain = join(t.files.root, "plain");
  writeFileSync(plain, "exit 0\n", { mode: 0o644 });
  for (const [command, message] of [
    ["no-such-program", /command not found: no-such-program in PATH .*install it/],
    ["/no/such/program", /command not found: \/no\/such\/program; /],
    [plain, /permission denied to execute .*plain: .*chmod/],
    [t.files.root, /it is a folder/],
  ] as const) {
    const result = await runtime.start(launchOf("att-a", [command]), farAhead());
    expect(result).toMatchObject({ kind: "refused", exitClass: "rejected" });
    expect(result).toMatchObject({ message: expect.stringMatching(message) });
    await runtime.remove("att-a");
  }
});

test("a stop signals the task, gives it its grace and lets it end by itself", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = "trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
  await runtime.start(launchOf("att-a", sh(script)), farAhead());
  await logHas(t, "att-a", "ready");
  expect(
    await runtime.stop("att-a", { reason: "cancelled", signal: "SIGTERM", graceMs: 30_000 }),
  ).toBe(true);
  expect(await t.exit("att-a")).toMatchObject({
    cause: "stop",
    stopReason: "cancelled",
    exitCode: 3,
  });
  await logHas(t, "att-a", "saved");
});

test("a task that ignores its stop signal is killed after the grace, with all its children", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = "trap '' TERM; (trap '' TERM; sleep 1000) & echo ready; wait; sleep 1000";
  await runtime.start(launchOf("att-a", sh(script)), farAhead());
  await logHas(t, "att-a", "ready");
  await runtime.stop("att-a", { reason: "preempted", signal: "SIGTERM", graceMs: 200 });
  expect(await t.exit("att-a")).toMatchObject({ cause: "stop", exitCode: 137 });
});

test("a stop after the end is not delivered and the exit keeps its cause", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["true"]), farAhead());
  expect((await t.exit("att-a")).cause).toBe("exit");
  expect(
    await runtime.stop("att-a", { reason: "cancelled", signal: "SIGTERM", graceMs: 100 }),
  ).toBe(false);
});

test("a background process that left its session does not outlive the attempt", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(
    launchOf("att-a", sh("setsid sleep 987654 & sleep 0.2; echo ready")),
    farAhead(),
  );
  await t.exit("att-a");
  const isolation = readStarted(attemptFiles(t.files, "att-a"))?.isolation ?? [];
  if (!isolation.includes("pid_ns") && !isolation.some((i) => i.startsWith("cgroup"))) {
    console.log("skipped: neither PID namespaces nor control groups here");
    return;
  }
  expect(await processesWith("987654")).toEqual([]);
});

async function processesWith(commandLine: string): Promise<string[]> {
  const { readdir } = await import("node:fs/promises");
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(commandLine);
    } catch {
      return false;
    }
  });
}

test("an attempt longer than its time limit is stopped with cause timeout", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["sleep", "1000"], { timeoutMs: 200 }), farAhead());
  expect(await t.exit("att-a")).toMatchObject({ cause: "timeout" });
});

test("an attempt whose lease ends dies, and a moved deadline counts", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["sleep", "1000"]), bootMs() + 600_000);
  await runtime.start(launchOf("att-b", ["sleep", "2"]), bootMs() + 1_800);
  await runtime.setDeadlines(new Map([["att-b", bootMs() + 600_000]]));
  await runtime.setDeadlines(new Map([["att-a", bootMs() + 100]]));
  expect((await t.exit("att-a")).cause).toBe("lease");
  expect((await t.exit("att-b")).cause).toBe("exit");
});

test("nothing starts whose lease is over", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const result = await runtime.start(launchOf("att-a", ["true"]), bootMs() - 1);
  expect(result.kind).toBe("refused");
});

test("progress lines travel from the file descriptor and from the file", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = `echo '{"step":1}' >&3; echo '{"step":2}' > "$FASTGPU_PROGRESS_FILE"`;
  await runtime.start(launchOf("att-a", sh(script)), farAhead());
  await t.exit("att-a");
  const lines = t.events.filter((e) => e.kind === "progress").map((e) => e.line);
  expect(lines.toSorted()).toEqual(['{"step":1}', '{"step":2}']);
});

test("a task over its memory limit ends as out of memory, not by guess from its code", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const limits = { cpuMillis: 0, memoryMib: 32, pids: 0 };
  const hog = "tail /dev/zero";
  await runtime.start(launchOf("att-a", sh(hog), { limits }), farAhead());
  const isolation = readStarted(attemptFiles(t.files, "att-a"))?.isolation ?? [];
  const outcome = await t.exit("att-a");
  await runtime.start(launchOf("att-b", sh("kill -9 $$"), { limits }), farAhead());
  expect(await t.exit("att-b")).toMatchObject({ exitCode: 137, oom: false });
  if (!isolation.includes("cgroup_memory")) {
    console.log("skipped: no writable memory control group here");
    return;
  }
  expect(outcome).toMatchObject({ oom: true });
});

test("each element of a range runs once, with its own log and its own end", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = 'echo "i=$FASTGPU_ARRAY_INDEX"; [ $FASTGPU_ARRAY_INDEX != 7 ] || exit 9';
  const array = { ranges: [[5, 25]] as const, slots: 3 };
  await runtime.start(launchOf("att-a", sh(script), { array }), farAhead());
  const outcome = await t.exit("att-a");
  expect(outcome.elements).toMatchObject({
    ok: [
      [5, 7],
      [8, 25],
    ],
    userExit: [[7, 8]],
  });
  const log = await logOf(t.files, "att-a");
  expect(log.length).toBe(20);
  for (const record of log) expect(record.text).toBe(`i=${record.element}\n`);
});

test("a stopped range keeps what had ended and claims nothing about the rest", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = "[ $FASTGPU_ARRAY_INDEX -lt 3 ] && exit 0; echo block; sleep 1000";
  const array = { ranges: [[0, 10]] as const, slots: 1 };
  await runtime.start(launchOf("att-a", sh(script), { array }), farAhead());
  await logHas(t, "att-a", "block");
  await runtime.stop("att-a", { reason: "cancelled", signal: "SIGTERM", graceMs: 2_000 });
  const outcome = await t.exit("att-a");
  expect(outcome).toMatchObject({ cause: "stop", stopReason: "cancelled" });
  expect(outcome.elements?.ok).toEqual([[0, 3]]);
  expect(countOf(outcome.elements?.userExit ?? [])).toBe(0);
});

test("an element over its time limit ends alone; one that kills its lane fails alone", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const script = "case $FASTGPU_ARRAY_INDEX in 2) sleep 1000;; 4) kill -9 $PPID;; esac; exit 0";
  const array = { ranges: [[0, 8]] as const, slots: 2 };
  await runtime.start(
    launchOf("att-a", sh(script), { array, timeoutMs: 3_000, graceMs: 100 }),
    farAhead(),
  );
  const outcome = await t.exit("att-a");
  expect(outcome.elements?.timeout).toEqual([[2, 3]]);
  const { ok, userExit } = outcome.elements ?? { ok: [], userExit: [] };
  expect(countOf(ok) + countOf(userExit)).toBe(7);
});

test("tasks do not see the worker's private folder", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["ls", "-A", t.files.private]), farAhead());
  const outcome = await t.exit("att-a");
  const isolation = readStarted(attemptFiles(t.files, "att-a"))?.isolation ?? [];
  if (!isolation.includes("mount_ns")) {
    console.log("skipped: no mount namespaces here");
    return;
  }
  const out = (await logOf(t.files, "att-a")).filter((r) => r.stream === "stdout");
  expect(out).toEqual([]);
  expect(outcome.cause).toBe("exit");
});

test("a data directory too deep for a socket's path works all the same", async () => {
  const files = workerFiles(join(makeFiles().root, "deep".repeat(20), "deeper".repeat(10)));
  prepareWorkerFiles(files);
  const t = makeProcessRuntime(files);
  await using runtime = t.runtime;
  await runtime.start(launchOf("att-a", ["true"]), farAhead());
  expect(await t.exit("att-a")).toMatchObject({ cause: "exit", exitCode: 0 });
  rmSync(files.sockets, { recursive: true });
});

test("a working directory that does not exist is refused with its name", async () => {
  const t = makeProcessRuntime();
  await using runtime = t.runtime;
  const launch = launchOf("att-a", ["true"], { workdir: "/no/such/folder" });
  expect(await runtime.start(launch, farAhead())).toMatchObject({
    exitClass: "start_failed",
    message: expect.stringContaining("/no/such/folder"),
  });
});
