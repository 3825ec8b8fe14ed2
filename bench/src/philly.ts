/** Waiting and fairness of queue policies on a Philly-format trace (goal G3). */
import { writeFile } from "node:fs/promises";
import { readPhilly } from "@fastgpu/simulation/philly/trace";
import type { PredictionError } from "@fastgpu/scheduling/order/predict";
import type { SimJob } from "@fastgpu/simulation/queueing/job";
import { predictionError } from "@fastgpu/simulation/queueing/prediction";
import { replayOnFleet } from "@fastgpu/simulation/fleet/queue-replay";
import { queuePolicies } from "@fastgpu/simulation/queueing/policies";
import { replay, tooWide } from "@fastgpu/simulation/queueing/replay";
import type { ReplayResult } from "@fastgpu/simulation/queueing/replay";
import { syntheticJobs } from "@fastgpu/simulation/synthetic";
import { renderQueueReport } from "@fastgpu/simulation/report/queue-report";
import { countOf, flagsOf, listOf, needed, UsageError, writeRows } from "./flags.ts";
import { readRows } from "./openb-files.ts";

/** Not a queue policy: the planner of the scheduler's cycle, places, leases and all. */
const service = "service";

const usage = `usage: npm run bench -- philly --trace FILE [flags]

Replays a Philly-format trace (CSV: timestamp, duration, num_gpus, cluster) under queue policies (goal G3).
The public source: https://github.com/msr-fiddle/philly-traces (CC BY 4.0).

  --trace FILE      the trace; or --synthetic for a made-up load
  --synthetic N     N jobs of seeded random load instead of a trace
  --seed N          seed of the synthetic load (default 42)
  --gpus LIST       sizes of the pool, comma-separated (default 512)
  --nodes N         GPUs of each node; 0: a flat pool (default 0)
  --policies LIST   of: ${Object.keys(queuePolicies).join(", ")}, ${service} (default: all but the
                    last: the service's planner on a simulated fleet of nodes, which takes minutes)
  --json FILE       writes one JSON object a line
  --html FILE       writes a self-contained page with plots over time

Columns, in hours: mean and 99th percentile from submit to end; longest from submit to the first start; longest from
submit to end beyond the run time; mean from submit to end of gangs of 8 GPUs and more.
`;

interface Row {
  readonly policy: string;
  readonly gpus: number;
  readonly gpusPerNode: number;
  readonly result: ReplayResult;
  readonly seconds: number;
}

async function readJobs(flags: {
  readonly trace: string | undefined;
  readonly synthetic: string | undefined;
  readonly seed: string;
}): Promise<readonly SimJob[]> {
  if (flags.synthetic === undefined) return readRows(needed("trace", flags.trace), readPhilly);
  const count = countOf("synthetic", flags.synthetic);
  return syntheticJobs({ count, seed: countOf("seed", flags.seed, 0) });
}

/** Entry of the experiment; answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const flags = flagsOf(args, {
    usage,
    defaults: {
      ...{ seed: "42", gpus: "512", nodes: "0", policies: Object.keys(queuePolicies).join(",") },
    },
    optional: ["trace", "synthetic", "html"],
  });
  if (flags === undefined) return 0;
  const gpusPerNode = countOf("nodes", flags.nodes, 0);
  const sizes = listOf(flags.gpus, (text) => countOf("gpus", text));
  const uneven = gpusPerNode > 0 ? sizes.find((gpus) => gpus % gpusPerNode !== 0) : undefined;
  if (uneven !== undefined) {
    throw new UsageError(`--gpus ${uneven} is not a whole number of ${gpusPerNode}-GPU nodes`);
  }
  const names = listOf(flags.policies, policyOf);
  if (names.includes(service) && gpusPerNode === 0) {
    throw new UsageError(`"${service}" places on nodes: say how large they are with --nodes`);
  }
  const jobs = fitting(await readJobs(flags), Math.min(...sizes));
  process.stdout.write(`${describeError(predictionError(jobs), jobs.length)}\n`);
  const rows = runAll({ jobs, sizes, gpusPerNode, names });
  await writeRows(
    flags.json,
    rows.map(({ result: { summary, chargedGpuHours }, ...row }) => ({
      ...{ ...row, ...summary, chargedGpuHours },
    })),
  );
  if (flags.html !== undefined) {
    const runs = rows.map(({ policy, gpus, result }) => ({
      name: `${policy} · ${gpus} GPUs`,
      result,
    }));
    await writeFile(flags.html, renderQueueReport({ title: "Queue replay", runs }));
  }
  return 0;
}

/** The jobs that fit the smallest pool, so that all pools are given the same ones; says how many do not. */
function fitting(jobs: readonly SimJob[], smallest: number): readonly SimJob[] {
  const wide = new Set(tooWide(jobs, smallest));
  if (wide.size === 0) return jobs;
  const widest = [...wide].reduce((most, { gpus }) => Math.max(most, gpus), 0);
  if (wide.size === jobs.length) {
    throw new UsageError(`no job fits: the pool has ${smallest} GPUs, --gpus ${widest} is enough`);
  }
  process.stdout.write(
    `left out: ${wide.size} of ${jobs.length} jobs, which want up to ${widest} GPUs; the smallest pool has ${smallest}\n`,
  );
  return jobs.filter((job) => !wide.has(job));
}

function policyOf(name: string): string {
  if (name === service || Object.hasOwn(queuePolicies, name)) return name;
  const known = [...Object.keys(queuePolicies), service].join(", ");
  throw new UsageError(`--policies: there is no policy "${name}"; there are ${known}`);
}

/** One line on the run times predicted from history (used for backfill and start estimates, not by the default order). */
function describeError(error: PredictionError, jobs: number): string {
  const percent = (part: number): string => `${(100 * part).toFixed(1)} %`;
  return [
    `run times predicted from history: ${error.predicted} of ${jobs} jobs`,
    `|log2(run time / p50)|: median ${error.medianAbsDoublings.toFixed(2)}, mean ${error.meanAbsDoublings.toFixed(2)} (bias ${error.biasDoublings.toFixed(2)})`,
    `${percent(error.p90Coverage)} within p90, ${percent(error.rangeCoverage)} within p10 to p90`,
  ].join("; ");
}

function runAll(options: {
  readonly jobs: readonly SimJob[];
  readonly sizes: readonly number[];
  readonly gpusPerNode: number;
  readonly names: readonly string[];
}): readonly Row[] {
  const { jobs, gpusPerNode } = options;
  const work = jobs.reduce((sum, job) => sum + job.gpus * job.durationMs, 0) / 3_600_000;
  const kind = gpusPerNode > 0 ? `${gpusPerNode}-GPU nodes` : "flat pool";
  process.stdout.write(`${jobs.length} jobs, ${Math.round(work)} GPU-hours, ${kind}\n`);
  const header = [
    "gpus",
    "policy",
    "mean h",
    "p99 h",
    "to start",
    "longest",
    "ratio",
    "wide h",
    "preempt",
    "s",
  ];
  print(header);
  const rows: Row[] = [];
  for (const gpus of options.sizes) {
    for (const name of options.names) {
      const started = performance.now();
      const result =
        name === service
          ? replayOnFleet({ jobs, gpus, gpusPerNode })
          : replay({ jobs, gpus, gpusPerNode, policy: queuePolicies[name]! });
      const seconds = (performance.now() - started) / 1000;
      rows.push({ policy: name, gpus, gpusPerNode, result, seconds });
      const { summary } = result;
      print([
        String(gpus),
        name,
        summary.meanHours.toFixed(2),
        summary.p99Hours.toFixed(1),
        summary.longestToStartHours.toFixed(1),
        summary.longestWaitHours.toFixed(0),
        summary.tenantRatio.toFixed(2),
        summary.wideMeanHours.toFixed(1),
        String(summary.preemptions),
        seconds.toFixed(1),
      ]);
    }
  }
  return rows;
}

function print(cells: readonly string[]): void {
  const widths = [5, 21, 8, 7, 9, 8, 7, 8, 8, 6];
  const line = cells.map((cell, at) =>
    at === 1 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0),
  );
  process.stdout.write(`${line.join(" ")}\n`);
}
