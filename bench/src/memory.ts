/** Memory of queued tasks (goal G9): separate tasks of many shapes in the backlog, and in the leader's picture. */
import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { Backlog } from "@fastgpu/scheduling/backlog/backlog";
import type { QueuedTask } from "@fastgpu/scheduling/backlog/backlog";
import { seededRandom } from "@fastgpu/simulation/openb/seeded";
import { countOf, flagsOf, listOf, writeRows } from "./flags.ts";
import { measureStored } from "./memory-stored.ts";

const usage = `usage: npm run bench -- memory [flags]

  --tasks N[,N]  queued tasks (default 1000000,10000000)
  --shapes N     distinct shapes among them (default 1500)
  --queues N     leaf queues (default 200)
  --stored N[,N] tasks in a real database, followed and rebuilt by a leader's picture (default 1000000; 0 = none)
  --plain N      tasks held as plain objects, for comparison (default 200000; 0 = none)
  --seed N       (default 42)
  --json OUT     one JSON object a line
`;

interface Measured {
  readonly kind: "columns" | "objects" | "leader";
  readonly tasks: number;
  readonly shapes: number;
  /** Decimal megabytes of the process, by the garbage collector's count, per million tasks. */
  readonly mbPerMillion: number;
  readonly addedPerSecond: number;
  readonly rebuiltPerSecond: number;
  readonly hash: string;
}

const collect = ((): (() => void) => {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
})();

/** Live bytes of the process after full collections; freed buffers are swept between them. */
async function liveBytes(): Promise<number> {
  for (let pass = 0; pass < 3; pass++) {
    collect();
    await setTimeout(20);
  }
  const { heapUsed, arrayBuffers, external } = process.memoryUsage();
  return heapUsed + Math.max(arrayBuffers, external);
}

/** Draws tasks: time-ordered UUIDs, shapes and queues at random. */
function taskSource(options: {
  readonly shapes: number;
  readonly queues: number;
  readonly seed: number;
}): (index: number) => QueuedTask {
  const random = seededRandom(options.seed);
  const hex = (bits: number): string =>
    Math.floor(random() * 2 ** bits)
      .toString(16)
      .padStart(bits / 4, "0");
  return (index) => {
    const submittedMs = 1_790_000_000_000 + index;
    return {
      uuid: `${submittedMs.toString(16).padStart(12, "0")}7${hex(12)}8${hex(12)}${hex(48)}`,
      classId: Math.floor(random() * options.shapes),
      queueId: Math.floor(random() * options.queues),
      submittedMs,
    };
  };
}

interface Setting {
  readonly tasks: number;
  readonly shapes: number;
  readonly queues: number;
  readonly seed: number;
}

function progress(text: string): void {
  process.stderr.write(`memory: ${text}\n`);
}

async function measureColumns(setting: Setting): Promise<Measured> {
  const { tasks } = setting;
  const draw = taskSource(setting);
  const before = await liveBytes();
  const backlog = new Backlog();
  const started = performance.now();
  for (let index = 0; index < tasks; index++) {
    if (backlog.add(draw(index)) === undefined) throw new Error("two tasks got one UUID");
    if (index > 0 && index % 2_000_000 === 0) progress(`${index} of ${tasks} queued`);
  }
  const seconds = (performance.now() - started) / 1000;
  const bytes = (await liveBytes()) - before;
  const hash = backlog.hash();
  const again = performance.now();
  const rebuilt = new Backlog();
  for (const line of backlog.heads()) {
    for (const row of backlog.rowsOf(line)) rebuilt.add(backlog.get(row));
  }
  const rebuildSeconds = (performance.now() - again) / 1000;
  if (rebuilt.hash() !== hash) throw new Error("the rebuilt backlog has another hash");
  return {
    kind: "columns",
    tasks,
    shapes: setting.shapes,
    mbPerMillion: bytes / tasks,
    addedPerSecond: tasks / seconds,
    rebuiltPerSecond: tasks / rebuildSeconds,
    hash,
  };
}

async function measureObjects(setting: Setting): Promise<Measured> {
  const { tasks } = setting;
  const draw = taskSource(setting);
  const before = await liveBytes();
  const started = performance.now();
  const byId = new Map<string, QueuedTask>();
  for (let index = 0; index < tasks; index++) {
    const task = draw(index);
    byId.set(task.uuid, task);
  }
  const seconds = (performance.now() - started) / 1000;
  const bytes = (await liveBytes()) - before;
  return {
    kind: "objects",
    tasks: byId.size,
    shapes: setting.shapes,
    mbPerMillion: bytes / tasks,
    addedPerSecond: tasks / seconds,
    rebuiltPerSecond: 0,
    hash: "",
  };
}

function show(line: Measured): string {
  const thousands = (rate: number): string => (rate === 0 ? "" : (rate / 1000).toFixed(0));
  return [
    line.kind.padEnd(8),
    String(line.tasks).padStart(9),
    String(line.shapes).padStart(6),
    line.mbPerMillion.toFixed(1).padStart(8),
    thousands(line.addedPerSecond).padStart(10),
    thousands(line.rebuiltPerSecond).padStart(12),
    line.hash,
  ].join("  ");
}

/** Entry of the experiment; answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: {
      ...{ tasks: "1000000,10000000", shapes: "1500", queues: "200", stored: "1000000" },
      ...{ plain: "200000", seed: "42" },
    },
  });
  if (values === undefined) return 0;
  const base = {
    shapes: countOf("shapes", values.shapes),
    queues: countOf("queues", values.queues),
    seed: countOf("seed", values.seed, 0),
  };
  const sizes = listOf(values.tasks, (text) => countOf("tasks", text));
  process.stdout.write("kind          tasks  shapes  MB/mill.  1000 adds/s  rebuilt/s   hash\n");
  const lines: Measured[] = [];
  const plain = countOf("plain", values.plain, 0);
  if (plain > 0) lines.push(await measureObjects({ ...base, tasks: plain }));
  if (plain > 0) process.stdout.write(`${show(lines[0]!)}\n`);
  for (const tasks of sizes) {
    const measured = await measureColumns({ ...base, tasks });
    lines.push(measured);
    process.stdout.write(`${show(measured)}\n`);
  }
  for (const tasks of listOf(values.stored, (text) => countOf("stored", text, 0))) {
    if (tasks === 0) continue;
    const stored = await measureStored({ ...base, tasks, liveBytes, progress });
    lines.push({ kind: "leader", tasks, shapes: base.shapes, ...stored });
    process.stdout.write(`${show(lines.at(-1)!)}  (${stored.rebuildSeconds.toFixed(1)} s)\n`);
  }
  await writeRows(values.json, lines);
  return 0;
}
