/** Durable submit → complete a second, beside floors and peers of the same run, and what a kill -9 leaves (goal G5). */
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { machineSince, verdict } from "./figures.ts";
import { countOf, flagsOf, listOf, UsageError, writeRows } from "./flags.ts";
import { startFixture, type Fixture } from "./pipeline-fixture.ts";
import { spawnFloor, startUnaryFloor } from "./pipeline-floors.ts";
import { checkAcrossKill, type KillVerdict } from "./pipeline-kill.ts";
import { runArrays, runSingles, type Work } from "./pipeline-load.ts";
import { findSlurm, startGraphile, startHyperQueue } from "./pipeline-peers.ts";
import { installSlurm } from "./pipeline-slurm.ts";
import { ratio, summarise, table, type Row } from "./pipeline-table.ts";

const usage = `usage: npm run bench -- pipeline [flags]

  --tasks N        array elements of a repeat (default 200000)
  --singles N      tasks of a repeat that go one to a call (default 3000)
  --processes N    real processes of a repeat (default 600)
  --repeats N      alternating repeats (default 5)
  --width N        calls under way at once (default 64)
  --only LIST      of batched, single, process, kill (default all)
  --split          each service and worker in a process of its own
  --no-peers       leave out graphile-worker, HyperQueue and Slurm
  --with-slurm     install Slurm with apt and start it for this run (root)
  --json OUT       one JSON object
`;

interface Options {
  readonly tasks: number;
  readonly singles: number;
  readonly processes: number;
  readonly repeats: number;
  readonly width: number;
  readonly only: ReadonlySet<string>;
  readonly split: boolean;
  readonly peers: boolean;
  readonly withSlurm: boolean;
}

/** One line of the experiment: measured once a repeat. */
interface Measured {
  readonly name: string;
  readonly measure: () => Promise<number>;
}

const noopCpuMillis = 64_000;
const noopGpus = 64;

function say(text: string): void {
  process.stderr.write(`pipeline: ${text}\n`);
}

/** Subjects of part (a) and (b) on a platform whose worker executes nothing. */
function noopSubjects(p: Fixture, o: Options): Measured[] {
  const on = { parent: p.parent, reader: p.reader };
  const plain: Work = { gpus: 0, cpuMillis: 100 };
  const withGpu: Work = { gpus: 1, cpuMillis: 100 };
  const arrays = (work: Work) => () =>
    runArrays(p.direct, { ...on, work, elements: o.tasks, parallelism: noopGpus });
  const singles = (client: Fixture["direct"], work: Work) => () =>
    runSingles(client, { ...on, work, tasks: o.singles, width: o.width });
  return [
    { name: "batched: array elements", measure: arrays(plain) },
    { name: "batched: array elements, 1 GPU a lease", measure: arrays(withGpu) },
    { name: "single: scheduler's port", measure: singles(p.direct, plain) },
    { name: "single: scheduler's port, 1 GPU a task", measure: singles(p.direct, withGpu) },
    { name: "single: through the gateway", measure: singles(p.gateway, plain) },
  ].filter(({ name }) => o.only.has(name.split(":")[0] ?? ""));
}

async function peersOfNoop(p: Fixture, o: Options, stack: AsyncDisposableStack) {
  const subjects: Measured[] = [];
  if (o.only.has("single")) {
    const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-floor-"));
    stack.defer(() => rm(directory, { recursive: true, force: true }));
    const floor = stack.use(await startUnaryFloor(directory, o.width));
    subjects.push({ name: "floor: empty unary call", measure: () => floor.measure(o.singles) });
  }
  if (!o.peers) return subjects;
  const graphile = await startGraphile(p.started.adminUrl);
  stack.defer(() => graphile.end());
  const { batched, single } = graphile;
  const jobs = Math.min(o.tasks, 20_000);
  if (o.only.has("batched")) {
    subjects.push({ name: "peer: graphile-worker, batched", measure: () => batched.measure(jobs) });
  }
  if (o.only.has("single")) {
    const each = single(o.width);
    subjects.push({
      name: "peer: graphile-worker, single",
      measure: () => each.measure(o.singles),
    });
  }
  return subjects;
}

/** Part (c): real processes, beside Node's own spawn and systems that start processes. */
async function processSubjects(
  o: Options,
  stack: AsyncDisposableStack,
  left: Map<string, string>,
): Promise<Measured[]> {
  const cores = availableParallelism();
  const p = stack.use(
    await startFixture({ runtime: "process", gpus: 2, workers: 1, split: o.split }),
  );
  const on = { parent: p.parent, reader: p.reader, elements: o.processes, parallelism: cores };
  const work: Work = { gpus: 0, cpuMillis: 1_000 };
  const floor = spawnFloor(cores);
  const subjects: Measured[] = [
    {
      name: "process: array of `true`",
      measure: () => runArrays(p.direct, { ...on, work }),
    },
    {
      name: "process: array of `true`, 1 GPU a lease",
      measure: () => runArrays(p.direct, { ...on, work: { ...work, gpus: 1 } }),
    },
    { name: "floor: Node's bare spawn", measure: () => floor.measure(o.processes) },
  ];
  if (!o.peers) return subjects;
  const hyperQueue = await startHyperQueue(cores);
  if (typeof hyperQueue === "string") left.set("HyperQueue", hyperQueue);
  else {
    stack.use(hyperQueue);
    subjects.push({ name: "peer: HyperQueue", measure: () => hyperQueue.measure(o.processes) });
  }
  if (o.withSlurm) stack.use(await installSlurm());
  const slurm = await findSlurm();
  if (typeof slurm === "string") left.set("Slurm", slurm);
  else {
    const few = Math.min(o.processes, 200);
    subjects.push({ name: "peer: Slurm array", measure: () => slurm.measure(few) });
  }
  return subjects;
}

/** Measures all subjects in turn, again and again, so that a busy moment of the machine meets all of them. */
async function alternate(subjects: readonly Measured[], repeats: number): Promise<Row[]> {
  const rates = new Map<string, number[]>(subjects.map(({ name }) => [name, []]));
  for (let repeat = 1; repeat <= repeats; repeat += 1) {
    for (const { name, measure } of subjects) {
      const rate = await measure();
      rates.get(name)?.push(rate);
      say(`${repeat}/${repeats} ${name}: ${Math.round(rate)}/s (load ${loadavg()[0]?.toFixed(1)})`);
    }
  }
  return [...rates].map(([name, all]) => summarise(name, all));
}

/** What the goals say of the figures. */
function verdicts(rows: readonly Row[]) {
  const rate = (name: string) => rows.find((row) => row.name === name);
  const batched = rate("batched: array elements");
  const slurm = ratio(rate("process: array of `true`"), rate("peer: Slurm array"));
  const bare = ratio(rate("process: array of `true`"), rate("floor: Node's bare spawn"));
  const direct = ratio(rate("single: scheduler's port"), rate("floor: empty unary call"));
  return [
    {
      goal: "a: batched elements ≥ 50,000/s",
      value: batched?.median,
      met: (batched?.median ?? 0) >= 50_000,
    },
    {
      goal: "b: one RPC each ≥ 0.6 × the bare unary floor",
      value: direct,
      met: (direct ?? 0) >= 0.6,
    },
    {
      goal: "c: processes ≥ 0.7 × the bare spawn floor, or ≥ 10 × Slurm",
      value: bare,
      slurm,
      met: (bare ?? 0) >= 0.7 || (slurm ?? 0) >= 10,
    },
  ].filter(({ value }) => value !== undefined);
}

async function measure(o: Options) {
  const left = new Map<string, string>();
  const rows: Row[] = [];
  let kill: KillVerdict | undefined;
  if (o.only.has("batched") || o.only.has("single") || o.only.has("kill")) {
    await using stack = new AsyncDisposableStack();
    const setting = { runtime: "noop", gpus: noopGpus, workers: 1, cpuMillis: noopCpuMillis };
    const p = stack.use(await startFixture({ ...setting, split: o.split }));
    // Once around unmeasured: statements are prepared and code is compiled.
    const warm = { parent: p.parent, reader: p.reader, work: { gpus: 1, cpuMillis: 100 } };
    await runSingles(p.direct, { ...warm, tasks: 300, width: o.width });
    {
      await using peers = new AsyncDisposableStack();
      const subjects = [...noopSubjects(p, o), ...(await peersOfNoop(p, o, peers))];
      rows.push(...(await alternate(subjects, o.repeats)));
    }
    if (o.only.has("kill"))
      kill = await checkAcrossKill(p, { elements: o.tasks, singles: o.singles, width: o.width });
  }
  if (o.only.has("process")) {
    await using stack = new AsyncDisposableStack();
    rows.push(...(await alternate(await processSubjects(o, stack, left), o.repeats)));
  }
  return { rows, kill, left: Object.fromEntries(left), verdicts: verdicts(rows) };
}

const parts = ["batched", "single", "process", "kill"];

function partOf(name: string): string {
  if (parts.includes(name)) return name;
  throw new UsageError(`--only: there is no part "${name}", but ${parts.join(", ")}`);
}

/** Entry of `npm run bench -- pipeline`; the exit code says whether the kill -9 lost or doubled anything. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: {
      ...{ tasks: "200000", singles: "3000", processes: "600", repeats: "5", width: "64" },
      only: parts.join(","),
    },
    switches: ["split", "no-peers", "with-slurm"],
  });
  if (values === undefined) return 0;
  const options: Options = {
    tasks: countOf("tasks", values.tasks),
    singles: countOf("singles", values.singles),
    processes: countOf("processes", values.processes),
    repeats: countOf("repeats", values.repeats),
    width: countOf("width", values.width),
    only: new Set(listOf(values.only, partOf)),
    split: values.split,
    peers: !values["no-peers"],
    withSlurm: values["with-slurm"],
  };
  const before = loadavg();
  const result = await measure(options);
  process.stdout.write(table(result.rows));
  for (const [peer, reason] of Object.entries(result.left)) {
    process.stdout.write(`left out   ${peer}: ${reason}\n`);
  }
  for (const { goal, value, met } of result.verdicts) {
    process.stdout.write(verdict(met, goal, value?.toPrecision(3) ?? ""));
  }
  if (result.kill !== undefined) process.stdout.write(result.kill.text);
  const { only, ...flags } = options;
  const on = { experiment: "pipeline", ...flags, only: [...only], machine: machineSince(before) };
  await writeRows(values.json, [{ ...on, ...result }]);
  return result.kill === undefined || result.kill.ok ? 0 : 1;
}
