/**
 * What the sandbox costs: `node services/worker/test/start-latency.ts [STARTS] [HIDDEN]` starts the same command bare
 * and under the keeper in turn, HIDDEN folders hidden, and prints milliseconds from the request to the first
 * instruction of the command, by the machine's one clock, and to the runtime's answer.
 */
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createKeeperClient } from "../src/keeper/client.ts";
import { createProcessRuntime } from "../src/runtime/process/runtime.ts";
import { farAhead, launchOf, makeFiles, observe } from "./harness.ts";

const starts = Number(process.argv[2] ?? 100);
const hidden = Number(process.argv[3] ?? 6);
const files = makeFiles();
const hide = Array.from({ length: hidden }, (_, n) => join(files.root, `hidden-${n}`));
for (const folder of hide) mkdirSync(folder);
const keeper = createKeeperClient({ files, idleMs: 1_000, hide });
const t = observe(files, keeper, createProcessRuntime({ files, keeper }));
const nowMs = (): number => performance.timeOrigin + performance.now();
const note = (path: string): string[] => ["/bin/sh", "-c", `exec date +%s%N > ${path}`];
const noted = (path: string): number =>
  Number(BigInt(readFileSync(path, "utf8").trim()) / 1_000n) / 1_000;

async function bare(path: string): Promise<number> {
  const begun = nowMs();
  const [program = "", ...args] = note(path);
  const child = spawn(program, args, { stdio: "ignore" });
  await new Promise((resolve) => child.once("exit", resolve));
  return noted(path) - begun;
}

async function sandboxed(name: string, path: string): Promise<[ran: number, answered: number]> {
  const begun = nowMs();
  const result = await t.runtime.start(
    launchOf(name, note(path), { limits: { cpuMillis: 1_000, memoryMib: 64, pids: 100 } }),
    farAhead(),
  );
  const answered = nowMs() - begun;
  if (result.kind === "refused") throw new Error(result.message);
  await t.exit(name);
  await t.runtime.remove(name);
  return [noted(path) - begun, answered];
}

const rows: Record<string, number[]> = { bare: [], keeper: [], over: [], answer: [] };
for (let n = 0; n < starts + 5; n += 1) {
  const bareMs = await bare(join(files.root, `bare-${n}`));
  const [ranMs, answeredMs] = await sandboxed(`att-${n}`, join(files.root, `task-${n}`));
  // The next one finds an idle keeper, as in a queue that is seldom full.
  await new Promise((resolve) => setTimeout(resolve, 30));
  if (n < 5) continue;
  rows["bare"]?.push(bareMs);
  rows["keeper"]?.push(ranMs);
  rows["over"]?.push(ranMs - bareMs);
  rows["answer"]?.push(answeredMs);
}
for (const [name, values] of Object.entries(rows)) {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (q: number): string => (sorted[Math.floor(q * sorted.length)] ?? 0).toFixed(1);
  console.log(`${name.padEnd(8)} p50 ${at(0.5)}  p90 ${at(0.9)}  p99 ${at(0.99)}`);
}
keeper.close();
