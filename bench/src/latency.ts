/** submit → running through the gateway, over the bare runtime's own start, in turn on an idle platform (goal G4). */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { machineSince, quantile, verdict } from "./figures.ts";
import { countOf, flagsOf, writeRows } from "./flags.ts";
import { startFixture, type Fixture } from "./pipeline-fixture.ts";
import { drained } from "./pipeline-load.ts";

const usage = `usage: npm run bench -- latency [flags]

  --submits N   submits, each beside one bare start (default 1000)
  --gpus N      simulated GPUs of each task (default 1)
  --json OUT    one JSON object

A process notes the time at which it runs. Platform: from before RunTask at the gateway to that note. Bare: from before
spawn of the same command to that note. Both in milliseconds by the machine's one clock.
`;

/** The shell writes its own clock's nanoseconds and renames: who sees the file sees all of it. */
const note = 'date +%s%N > "$OUT.new" && mv "$OUT.new" "$OUT"';

const nowMs = (): number => performance.timeOrigin + performance.now();

/** The time that a process noted, in milliseconds since the epoch. */
async function noted(path: string): Promise<number> {
  const until = performance.now() + 60_000;
  for (;;) {
    const text = await readFile(path, "utf8").catch(() => "");
    if (text !== "") return Number(BigInt(text.trim()) / 1_000n) / 1_000;
    if (performance.now() > until) throw new Error(`${path} was never written`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function bareStart(path: string): Promise<number> {
  const begun = nowMs();
  const child = spawn("sh", ["-c", note], { stdio: "ignore", env: { ...process.env, OUT: path } });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const at = await noted(path);
  await ended;
  return at - begun;
}

async function platformStart(p: Fixture, path: string, gpus: number): Promise<number> {
  const task = create(TaskSchema, {
    spec: {
      runtime: { case: "process", value: { command: ["sh", "-c", note] } },
      env: { OUT: path },
      resources: {
        cpuMillis: 100n,
        memoryMib: 64n,
        ...(gpus === 0 ? {} : { gpu: { count: gpus } }),
      },
    },
  });
  const begun = nowMs();
  await p.gateway.runTask({ parent: p.parent, requestId: randomUUID(), task });
  const at = await noted(path);
  // The next one finds an idle platform.
  await drained(p.reader);
  return at - begun;
}

interface Spread {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  return { p50: quantile(sorted, 0.5), p90: quantile(sorted, 0.9), p99: quantile(sorted, 0.99) };
}

async function measure(submits: number, gpus: number) {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-latency-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  // Tasks may run as another user.
  await chmod(directory, 0o777);
  const p = stack.use(
    await startFixture({ runtime: "process", gpus: 2, workers: 1, split: false }),
  );
  const platform: number[] = [];
  const bare: number[] = [];
  const warmUp = 20;
  for (let n = 0; n < submits + warmUp; n += 1) {
    const bareMs = await bareStart(join(directory, `bare-${n}`));
    const platformMs = await platformStart(p, join(directory, `task-${n}`), gpus);
    if (n < warmUp) continue;
    bare.push(bareMs);
    platform.push(platformMs);
  }
  const differences = platform.map((value, at) => value - (bare[at] ?? 0));
  return { platform: spread(platform), bare: spread(bare), difference: spread(differences) };
}

/** Entry of `npm run bench -- latency`. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, { usage, defaults: { submits: "1000", gpus: "1" } });
  if (values === undefined) return 0;
  const submits = countOf("submits", values.submits);
  const before = loadavg();
  const result = await measure(submits, countOf("gpus", values.gpus, 0));
  const number = (value: number): string => value.toFixed(1).padStart(9);
  process.stdout.write(`milliseconds            p50       p90       p99\n`);
  for (const [name, of] of Object.entries(result)) {
    process.stdout.write(
      `${name.padEnd(16)} ${number(of.p50)} ${number(of.p90)} ${number(of.p99)}\n`,
    );
  }
  const { p50, p99 } = result.difference;
  process.stdout.write(verdict(p50 <= 5, "p50 of the difference ≤ 5 ms", p50.toFixed(1)));
  process.stdout.write(verdict(p99 <= 20, "p99 of the difference ≤ 20 ms", p99.toFixed(1)));
  const row = { experiment: "latency", submits, machine: machineSince(before), ...result };
  await writeRows(values.json, [row]);
  return 0;
}
