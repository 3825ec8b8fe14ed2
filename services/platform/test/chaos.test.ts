import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { describeFailures } from "@fastgpu/auditor/audit";
import { expect, test } from "vitest";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  shortLeases,
  stateName,
  testPlatform,
  type TestPlatform,
} from "./harness.ts";

const taskCount = 200;

/**
 * Each run of a task writes its begin and its end, with the kernel's clock, to a file outside its own folder: what it
 * did in the world, whatever the platform thinks of it.
 */
function effects(file: string): string {
  return (
    `at() { cut -d" " -f1 /proc/uptime; }; ` +
    `echo "begin $N $FASTGPU_ATTEMPT $(at)" >> ${file}; sleep 0.$((N % 5))1; ` +
    `echo "end $N $FASTGPU_ATTEMPT $(at)" >> ${file}`
  );
}

/** Submits with a request id, again and again until it is acknowledged: what a client does. */
async function submit(p: TestPlatform, n: number, file: string): Promise<string> {
  const requestId = randomUUID();
  const task = script(effects(file), {
    env: { N: String(n) },
    ...(n % 4 === 0 ? { gpus: 1 } : {}),
  });
  for (let tries = 0; ; tries += 1) {
    try {
      const accepted = await p.tasks.runTask(
        { parent: p.parent, requestId, task },
        { timeoutMs: 5_000 },
      );
      return accepted.name;
    } catch (error) {
      if (tries >= 60) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

/** No two runs of one task overlap, and exactly one run of each came to its end with the last word (I3, I4). */
function checkEffects(lines: readonly string[]): void {
  const runs = new Map<string, { begin: number; end: number | undefined }[]>();
  const open = new Map<string, { begin: number; end: number | undefined }>();
  for (const line of lines) {
    const [what, n = "", attempt = "", at] = line.split(" ");
    if (what === "begin") {
      const run = { begin: Number(at), end: undefined };
      open.set(attempt, run);
      runs.set(n, [...(runs.get(n) ?? []), run]);
    } else {
      const run = open.get(attempt);
      expect(run, `an end without its begin: ${line}`).toBeDefined();
      if (run !== undefined) run.end = Number(at);
    }
  }
  expect(runs.size).toBe(taskCount);
  for (const [n, list] of runs) {
    for (const [at, run] of list.entries()) {
      const next = list[at + 1];
      if (next === undefined || run.end === undefined) continue;
      expect(next.begin, `two runs of task ${n} overlap`).toBeGreaterThanOrEqual(run.end);
    }
    expect(list.at(-1)?.end, `task ${n} never ran to its end`).toBeDefined();
  }
}

async function checkOutcome(
  p: TestPlatform,
  names: readonly string[],
  file: string,
): Promise<void> {
  expect(new Set(names).size).toBe(taskCount);
  for (const name of names) {
    const task = await endOf(p, name, 120_000);
    expect(stateName(task), `${name}: ${task.statusMessage}`).toBe("TASK_STATE_SUCCEEDED");
  }
  checkEffects(await linesOf(file));
  const report = await settledAudit(p);
  expect(describeFailures(report)).toBe("");
}

async function effectsFile(p: TestPlatform): Promise<string> {
  const directory = join(p.directory, "effects");
  await mkdir(directory, { recursive: true, mode: 0o777 });
  return join(directory, "log");
}

test("services and workers apart, each killed with SIGKILL in turn: every acknowledged task ends exactly once", async () => {
  await using p = await testPlatform({ split: true, workers: 2, env: shortLeases });
  const file = await effectsFile(p);
  const submitting = Array.from({ length: taskCount }, async (_, n) => {
    await new Promise((resolve) => setTimeout(resolve, n * 60));
    return submit(p, n, file);
  });
  const names = Promise.all(submitting);
  for (const victim of [
    "scheduler",
    "billing",
    "worker-1",
    "auth",
    "storage",
    "gateway",
    "monitor",
    "worker-2",
  ]) {
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    const pid = p.platform.pids().get(victim);
    expect(pid, victim).toBeDefined();
    process.kill(pid ?? 0, "SIGKILL");
  }
  await checkOutcome(p, await names, file);
}, 300_000);

test("database and broker killed under load, the broker's store wiped: nothing acknowledged is lost", async () => {
  await using p = await testPlatform({ split: true, workers: 2, env: shortLeases });
  const file = await effectsFile(p);
  const submitting = Array.from({ length: taskCount }, async (_, n) => {
    await new Promise((resolve) => setTimeout(resolve, n * 40));
    return submit(p, n, file);
  });
  const names = Promise.all(submitting);
  for (const victim of ["postgres", "nats", "postgres"] as const) {
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    process.kill(p.platform.backingPids()[victim], "SIGKILL");
  }
  await checkOutcome(p, await names, file);
}, 300_000);
