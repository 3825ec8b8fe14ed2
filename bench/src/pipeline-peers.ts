/** Other systems, measured in the same run where they can be had. None of them keeps holds, usage, leases or logs. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Logger, makeWorkerUtils, run as runWorker, type Runner } from "graphile-worker";
import pg from "pg";
import { secondsOf, type Subject } from "./pipeline-floors.ts";
import { inFlight } from "./pipeline-load.ts";

const exec = promisify(execFile);

/** graphile-worker on the same database server, in a database of its own; durable in the same way. */
export async function startGraphile(adminUrl: string): Promise<{
  /** Jobs added a thousand to a call. */
  readonly batched: Subject;
  /** Jobs added one to a call, `width` under way at once. */
  readonly single: (width: number) => Subject;
  end(): Promise<void>;
}> {
  const url = adminUrl.replace(/\/postgres$/, "/bench_graphile");
  const admin = new pg.Client({ connectionString: adminUrl });
  await admin.connect();
  await admin.query("create database bench_graphile");
  await admin.end();
  const logger = new Logger(() => () => undefined);
  const utils = await makeWorkerUtils({ connectionString: url, logger });
  await utils.migrate();
  let left = 0;
  let finished = (): void => undefined;
  const runner: Runner = await runWorker({
    connectionString: url,
    logger,
    concurrency: 24,
    maxPoolSize: 10,
    pollInterval: 1_000,
    noHandleSignals: true,
    preset: {
      worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
    },
    taskList: {
      noop: () => {
        left -= 1;
        if (left === 0) finished();
      },
    },
  });
  const measured = (add: (count: number) => Promise<void>): Subject => ({
    async measure(count) {
      left = count;
      const all = new Promise<void>((resolve) => {
        finished = resolve;
      });
      return count / (await secondsOf(() => Promise.all([add(count), all])));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  return {
    batched: measured(async (count) => {
      for (let at = 0; at < count; at += 1_000) {
        const jobs = Array.from({ length: Math.min(1_000, count - at) }, () => ({
          identifier: "noop",
          payload: {},
        }));
        await utils.addJobs(jobs);
      }
    }),
    single: (width) => measured((count) => inFlight(count, width, () => utils.addJob("noop", {}))),
    async end() {
      await runner.stop();
      await utils.release();
    },
  };
}

/** HyperQueue from its PyPI wheel, fetched by pip once; where it cannot be had, the reason. */
export async function startHyperQueue(cores: number): Promise<Subject | string> {
  const root = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const cache = join(root, "fastgpu", "bench", "hyperqueue");
  try {
    if (!existsSync(join(cache, "hyperqueue"))) {
      await mkdir(cache, { recursive: true });
      // With what it imports; nothing of it goes into the system's Python.
      const target = ["--target", cache, "hyperqueue==0.27.0"];
      await exec("pip", ["install", "--quiet", ...target], { timeout: 120_000 });
    }
  } catch (error) {
    return `its wheel could not be installed: ${reasonOf(error)}`;
  }
  const program = fileURLToPath(new URL("./pipeline-hyperqueue.py", import.meta.url));
  const child = spawn("python3", [program, cache, String(cores)], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines = createInterface({ input: child.stdout });
  // It prints a banner and bars of its own: only what begins with our mark counts.
  const waiting: ((line: string | undefined) => void)[] = [];
  lines.on("line", (line) => {
    if (line.startsWith("bench ")) waiting.shift()?.(line.slice("bench ".length));
  });
  child.once("exit", () => {
    for (const tell of waiting) tell(undefined);
  });
  const nextLine = (): Promise<string | undefined> => new Promise((tell) => waiting.push(tell));
  if ((await nextLine()) !== "ready") return "its server did not start";
  return {
    async measure(count) {
      child.stdin.write(`${count}\n`);
      const answer = await nextLine();
      if (answer === undefined) throw new Error("HyperQueue's process ended");
      return Number(answer);
    },
    async [Symbol.asyncDispose]() {
      const exited = once(child, "exit");
      child.stdin.end();
      setTimeout(() => child.kill("SIGKILL"), 5_000).unref();
      await exited;
    },
  };
}

/** Slurm where `sbatch` reaches a running cluster: an array of `true`, until its queue knows it no more; where it does not, the reason. */
export async function findSlurm(): Promise<Subject | string> {
  try {
    await exec("sinfo", ["--noheader"], { timeout: 5_000 });
  } catch (error) {
    const absent = (error as NodeJS.ErrnoException).code === "ENOENT";
    return absent ? "not installed (--with-slurm installs it, as root)" : "no cluster answers";
  }
  return {
    async measure(count) {
      // Not `sbatch --wait`: it looks every few seconds only.
      const script = ["--parsable", "--output=/dev/null", "--wrap=true"];
      const run = async (): Promise<void> => {
        const submit = ["--array", `0-${count - 1}`, ...script];
        const job = (await exec("sbatch", submit)).stdout.trim();
        const look = ["--noheader", "--jobs", job];
        while ((await exec("squeue", look).catch(() => ({ stdout: "" }))).stdout !== "") {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      };
      return count / (await secondsOf(run));
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
}
