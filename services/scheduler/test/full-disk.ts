/**
 * A program of its own, started with little room for each file (`ulimit -f`): records until the disk refuses, then has
 * the garbage collector look for files that nobody closed, which would end it. Prints what it found.
 */
import { readdir, readlink } from "node:fs/promises";
import { createRecorder } from "../src/recording/recorder.ts";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { createPlanning } from "../src/cycle/planning.ts";
import { quiet } from "@fastgpu/testkit/log";

const [directory = ""] = process.argv.slice(2);
let nowMs = 1_790_000_000_000;
let refusals = 0;
const log = Object.assign(Object.create(quiet) as typeof quiet, { warn: () => (refusals += 1) });

const recorder = createRecorder({
  ...{ directory, clock: { nowMs: () => nowMs }, log },
  ...{ maxBytes: 2 ** 30, segmentBytes: 2 ** 20 },
  writer: { product: "0", engine: "test", replica: "scheduler-0", term: 1 },
});
const planning = createPlanning(defaultSchedulingPolicy, recorder);
const empty = { nodes: [], tasks: [], queues: [], usage: [], reservations: [] };
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Open files of recordings. */
async function openFiles(): Promise<number> {
  const links = await readdir("/proc/self/fd");
  const paths = await Promise.all(
    links.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  );
  return paths.filter((path) => path.startsWith(directory)).length;
}

// Two lives of a recording: it rests for a minute after each refusal.
for (let life = 1; life <= 2; life += 1) {
  while (refusals < life) {
    planning.plan(empty, (nowMs += 1));
    await turn();
  }
  // A file that is left open ends the process here; one that is being closed takes a few turns.
  for (let pass = 0; pass < 10 || (pass < 1_000 && (await openFiles()) > 0); pass += 1) {
    globalThis.gc?.();
    await turn();
  }
  nowMs += 60_000;
}
console.log(
  JSON.stringify({ refusals, files: (await readdir(directory)).length, open: await openFiles() }),
);
process.exit(0);
