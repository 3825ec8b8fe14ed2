import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describeFailures } from "@fastgpu/auditor/audit";
import { expect } from "vitest";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  stateName,
  withSpec,
  type Clients,
  type Reachable,
} from "./harness.ts";

// What the tests share that kill parts of a platform: many small tasks whose runs leave a trace in the world, submitted
// by a client that does not give up, and the check that each came to its end once.

/** Tasks of each such test. */
export const taskCount = 200;
/** Every tenth of them is a gang of two. */
const isGang = (n: number): boolean => n % 10 === 5;

/** A platform under such a test. */
export interface Victim extends Pick<Clients, "tasks" | "billing" | "parent"> {
  readonly platform: Pick<Reachable, "auditorUrl" | "org">;
  readonly directory: string;
}

/**
 * Each run of a task, or of a gang's member, writes its begin and its end, with the kernel's clock, to a file outside its own folder: what it
 * did in the world, whatever the platform thinks of it.
 */
function effects(file: string): string {
  return (
    `at() { cut -d" " -f1 /proc/uptime; }; run=$N\${RANK:+.$RANK}; ` +
    `echo "begin $run $FASTGPU_ATTEMPT $(at)" >> ${file}; sleep 0.$((N % 5))1; ` +
    `echo "end $run $FASTGPU_ATTEMPT $(at)" >> ${file}`
  );
}

/** Submits with a request id, again and again until it is acknowledged: what a client does. */
async function submit(p: Victim, n: number, file: string): Promise<string> {
  const requestId = randomUUID();
  const plain = script(effects(file), {
    env: { N: String(n) },
    ...(n % 4 === 0 || isGang(n) ? { gpus: 1 } : {}),
  });
  const task = isGang(n) ? withSpec(plain, { replicas: 2 }) : plain;
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

interface Run {
  readonly attempt: string;
  readonly begin: number;
  end: number | undefined;
}

/**
 * No two runs of one task (of a gang: of one rank) overlap, and exactly one run of each came to its end with the last
 * word (I3, I4), of a gang's ranks all in one attempt (I6). `count`: tasks, for a gang its members.
 */
export function checkEffects(lines: readonly string[], count: number): void {
  const runs = new Map<string, Run[]>();
  const open = new Map<string, Run>();
  for (const line of lines) {
    const [what, n = "", attempt = "", at] = line.split(" ");
    if (what === "begin") {
      const run = { attempt, begin: Number(at), end: undefined };
      open.set(`${attempt} ${n}`, run);
      runs.set(n, [...(runs.get(n) ?? []), run]);
    } else {
      const run = open.get(`${attempt} ${n}`);
      expect(run, `an end without its begin: ${line}`).toBeDefined();
      if (run !== undefined) run.end = Number(at);
    }
  }
  expect(runs.size).toBe(count);
  for (const [n, list] of runs) {
    for (const [at, run] of list.entries()) {
      const next = list[at + 1];
      if (next === undefined || run.end === undefined) continue;
      expect(next.begin, `two runs of task ${n} overlap`).toBeGreaterThanOrEqual(run.end);
    }
    expect(list.at(-1)?.end, `task ${n} never ran to its end`).toBeDefined();
    const first = runs.get(n.replace(/\.\d+$/, ".0"));
    expect(list.at(-1)?.attempt, `gang ${n} ended in pieces`).toBe(first?.at(-1)?.attempt);
  }
}

/** Every task succeeded, its effects are right, and the auditor finds nothing. */
export async function checkOutcome(
  p: Victim,
  names: readonly string[],
  file: string,
): Promise<void> {
  expect(new Set(names).size).toBe(taskCount);
  for (const name of names) {
    const task = await endOf(p, name, 120_000);
    expect(stateName(task), `${name}: ${task.statusMessage}`).toBe("TASK_STATE_SUCCEEDED");
  }
  const gangs = Array.from({ length: taskCount }, (_, n) => n).filter(isGang).length;
  checkEffects(await linesOf(file), taskCount + gangs);
  const report = await settledAudit(p);
  expect(describeFailures(report)).toBe("");
}

/** The file of the effects, outside the platform's own folders. */
export async function effectsFile(p: Victim): Promise<string> {
  const directory = join(p.directory, "effects");
  await mkdir(directory, { recursive: true, mode: 0o777 });
  return join(directory, "log");
}

/** Submits all tasks, one each `paceMs`; resolves with their names once all are acknowledged. */
export function submitAll(p: Victim, file: string, paceMs: number): Promise<string[]> {
  const submitting = Array.from({ length: taskCount }, async (_, n) => {
    await new Promise((resolve) => setTimeout(resolve, n * paceMs));
    return submit(p, n, file);
  });
  const all = Promise.all(submitting);
  // Whoever kills first and looks afterwards hears of a failure then.
  all.catch(() => undefined);
  return all;
}

/** Waits until so many runs have begun. */
export async function begun(file: string, count: number, timeoutMs = 60_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const runs = (await linesOf(file)).filter((line) => line.startsWith("begin")).length;
    if (runs >= count) return;
    if (performance.now() > deadline) throw new Error(`only ${runs} of ${count} runs have begun`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
