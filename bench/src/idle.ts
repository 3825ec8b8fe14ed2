/** `npm start` to ready, and the memory of everything that it started, once idle (goal G11). */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { endLeftovers, freePort } from "@fastgpu/lifecycle/child";
import { machineSince, median, verdict } from "./figures.ts";
import { countOf, flagsOf, numberOf, writeRows } from "./flags.ts";

const usage = `usage: npm run bench -- idle [flags]

  --repeats N   starts on the same data that are timed, after the first one (default 5)
  --settle S    seconds of idling before memory is read (default 20)
  --json OUT    one JSON object

Memory is the sum of the proportional set sizes (PSS) of the process tree: shared pages count once.
`;

const root = fileURLToPath(new URL("../..", import.meta.url));

interface Process {
  readonly pid: number;
  readonly name: string;
  readonly pssMb: number;
}

/** The processes below `pid`, itself included, with what is started in sessions of their own. */
async function processTree(pid: number): Promise<Process[]> {
  const children = new Map<number, number[]>();
  const names = new Map<number, string>();
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const stat = await readFile(`/proc/${entry}/stat`, "utf8").catch(() => "");
    const close = stat.lastIndexOf(")");
    if (close < 0) continue;
    const parent = Number(stat.slice(close + 2).split(" ")[1]);
    names.set(Number(entry), stat.slice(stat.indexOf("(") + 1, close));
    children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
  }
  const all: Process[] = [];
  const visit = async (each: number): Promise<void> => {
    all.push({ pid: each, name: names.get(each) ?? "", pssMb: await pssOf(each) });
    for (const child of children.get(each) ?? []) await visit(child);
  };
  await visit(pid);
  return all;
}

/** Proportional set size in MB (10⁶ bytes); 0 where the process has gone. */
async function pssOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8").catch(() => "");
  const kib = /^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? "0";
  return (Number(kib) * 1024) / 1e6;
}

/** Runs `npm start` on a data directory; resolves when it says that it is ready. */
async function start(
  directory: string,
  port: number,
): Promise<{ child: ChildProcess; seconds: number }> {
  const begun = performance.now();
  const flags = ["--data", join(directory, "data"), "--port", String(port)];
  const child = spawn("npm", ["start", "--", ...flags], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, FASTGPU_CONFIG: join(directory, "config.yaml") },
  });
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.includes("is ready after")) {
      child.stdout.resume();
      return { child, seconds: (performance.now() - begun) / 1000 };
    }
  }
  throw new Error("npm start ended before it was ready");
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = once(child, "exit");
  // The platform itself, neither npm above it nor what it started: it ends that in order.
  for (const { pid } of await processTree(child.pid ?? 0)) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    const [, program = ""] = command.split("\0").filter((word) => !word.startsWith("--"));
    if (program.endsWith("fastgpu.mjs")) process.kill(pid, "SIGTERM");
  }
  await exited;
}

async function measure(repeats: number, settleS: number) {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-idle-"));
  stack.defer(async () => {
    // The first task runs on for a while after its platform, and writes into the directory.
    await endLeftovers(
      ({ cwd, args }) => [cwd, ...args].some((at) => at.startsWith(directory)),
      [],
    );
    await rm(directory, { recursive: true, force: true });
  });
  await chmod(directory, 0o711);
  // Three ports in a row: the gateway's, the workers' and the metrics'.
  const port = await freePort(3);
  const first = await start(directory, port);
  await new Promise((resolve) => setTimeout(resolve, 10_000));
  await stop(first.child);
  const seconds: number[] = [];
  let processes: Process[] = [];
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    const again = await start(directory, port);
    seconds.push(again.seconds);
    if (repeat === repeats - 1) {
      await new Promise((resolve) => setTimeout(resolve, settleS * 1_000));
      processes = await processTree(again.child.pid ?? 0);
    }
    await stop(again.child);
  }
  const pssMb = processes.reduce((sum, each) => sum + each.pssMb, 0);
  return {
    firstSeconds: first.seconds,
    seconds,
    medianSeconds: median(seconds),
    pssMb,
    processes,
  };
}

/** Entry of `npm run bench -- idle`. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, { usage, defaults: { repeats: "5", settle: "20" } });
  if (values === undefined) return 0;
  const before = loadavg();
  const result = await measure(
    countOf("repeats", values.repeats),
    numberOf("settle", values.settle),
  );
  const { firstSeconds, seconds, medianSeconds, pssMb, processes } = result;
  for (const each of processes.toSorted((a, b) => b.pssMb - a.pssMb)) {
    process.stdout.write(`${each.name.padEnd(20)} ${each.pssMb.toFixed(1).padStart(8)} MB\n`);
  }
  const range = `${Math.min(...seconds).toFixed(1)} … ${Math.max(...seconds).toFixed(1)}`;
  process.stdout.write(`first start ${firstSeconds.toFixed(1)} s, again ${range} s\n`);
  process.stdout.write(
    verdict(medianSeconds <= 5, "ready ≤ 5 s, median", medianSeconds.toFixed(2)),
  );
  process.stdout.write(verdict(pssMb <= 300, "Σ PSS ≤ 300 MB", pssMb.toFixed(0)));
  await writeRows(values.json, [{ experiment: "idle", machine: machineSince(before), ...result }]);
  return 0;
}
