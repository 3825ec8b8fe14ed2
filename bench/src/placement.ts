/**
 * GPU allocation on openb-format traces, by policy (goal G2): the experiment of
 * "Beware of Fragmentation" (USENIX ATC '23) over any node list and pod lists.
 */
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { policies } from "@fastgpu/scheduling/placement/engine";
import type { PolicyName } from "@fastgpu/scheduling/placement/engine";
import { arrivedPct } from "@fastgpu/simulation/openb/allocation";
import { readCsv } from "@fastgpu/simulation/openb/csv";
import { workloadName } from "@fastgpu/simulation/openb/trace";
import { countOf, flagsOf, listOf, needed, UsageError, writeRows } from "./flags.ts";
import { readNodeFile, readPodFile } from "./openb-files.ts";
import type { PlacementJob, PlacementLine, PlacementReply } from "./placement-worker.ts";

const usage = `usage: npm run bench -- placement --nodes FILE --pods FILE[,FILE…] [flags]

  --nodes FILE        node list in openb format (sn, cpu_milli, memory_mib, gpu, model)
  --pods FILE[,FILE]  pod lists (name, cpu_milli, memory_mib, num_gpu, gpu_milli[, gpu_spec])
  --seeds A-B         seeds, e.g. 42-51 or 42,45 (default 42-51)
  --policies P[,P]    ${Object.keys(policies).join(", ")} (default default,fgd,bestfit)
  --published FILE    published means to print beside (default: published_allocation.csv beside
                      the first pod list, where there is one)
  --json OUT          one JSON object a line: {workload, policy, seed, arrivedPct, allocatedPct}
  --threads N         runs at once (default 2)

The traces are Alibaba's cluster-trace-gpu-v2023 (github.com/alibaba/clusterdata).
`;

/** Names of the published policies that ours re-implement. */
const publishedNames: Readonly<Record<string, string>> = {
  random: "01-Random",
  packing: "04-GpuPacking",
  bestfit: "05-BestFit",
  fgd: "06-FGD",
};

/** Parses `42-51` or `42,45`. */
function parseSeeds(text: string): number[] {
  const seeds = text.split(",").flatMap((part) => {
    const range = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part.trim());
    if (range === null) throw new UsageError(`--seeds: "${part}" is not a number or a range`);
    const first = Number(range[1]);
    const last = Number(range[2] ?? range[1]);
    if (last < first || last - first > 10_000) throw new UsageError(`--seeds: bad range "${part}"`);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return [...new Set(seeds)];
}

function policyOf(name: string): PolicyName {
  if (Object.hasOwn(policies, name)) return name as PolicyName;
  throw new UsageError(
    `--policies: no policy "${name}"; there are ${Object.keys(policies).join(", ")}`,
  );
}

type Published = ReadonlyMap<string, readonly number[]>;

/** Reads published means: key "workload/policy", values beside `arrivedPct`. */
async function readPublished(file: string | undefined, beside: string): Promise<Published> {
  const path = file ?? join(dirname(beside), "published_allocation.csv");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    if (file === undefined) return new Map();
    throw new UsageError(`--published: cannot read ${file}`, { cause });
  }
  const columns = arrivedPct.map((pct) => `allocated_pct_at_${pct}`);
  const required = ["workload", "policy", ...columns];
  const result = readCsv({ file: path, text, required }, (fields) => ({
    key: `${fields.text("workload")}/${fields.text("policy")}`,
    values: columns.map((column) => Number(fields.text(column))),
  }));
  if (result.kind === "bad")
    throw new UsageError(`${result.file}:${result.line}: ${result.problem}`);
  return new Map(result.rows.map(({ key, values }) => [key, values]));
}

/** Runs all jobs on up to `threads` workers; answers lines in the order of the jobs. */
async function runJobs(
  jobs: readonly PlacementJob[],
  context: { readonly nodes: string; readonly threads: number },
): Promise<PlacementLine[]> {
  const lines: PlacementLine[] = Array.from({ length: jobs.length });
  let next = 0;
  let done = 0;
  const started = performance.now();
  const progress = (): void => {
    if (!process.stderr.isTTY && done % 10 !== 0 && done !== jobs.length) return;
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    const end = process.stderr.isTTY && done < jobs.length ? "\r" : "\n";
    process.stderr.write(`placement: ${done} of ${jobs.length} runs, ${seconds} s${end}`);
  };
  const work = async (): Promise<void> => {
    const url = new URL("./placement-worker.ts", import.meta.url);
    const worker = new Worker(fileURLToPath(url), { workerData: { nodes: context.nodes } });
    try {
      while (next < jobs.length) {
        const index = next++;
        lines[index] = await new Promise<PlacementLine>((resolve, reject) => {
          worker.once("error", reject);
          worker.once("message", (reply: PlacementReply) => {
            worker.removeListener("error", reject);
            if (reply.kind === "line") resolve(reply.line);
            else reject(new UsageError(reply.message));
          });
          worker.postMessage(jobs[index]);
        });
        done++;
        progress();
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(context.threads, jobs.length) }, work));
  return lines;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values: readonly number[]): number {
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return values.length < 2 ? 0 : Math.sqrt(squares / (values.length - 1));
}

/** Means over seeds by workload and policy, with the published figures beside. */
function table(lines: readonly PlacementLine[], published: Published): string {
  const groups = Map.groupBy(lines, ({ workload, policy }) => `${workload}/${policy}`);
  const rows = [...groups.values()].map((group) => {
    const { workload, policy } = group[0]!;
    const means = arrivedPct.map((_, at) => mean(group.map((line) => line.allocatedPct[at]!)));
    const at100 = group.map((line) => line.allocatedPct[arrivedPct.indexOf(100)]!);
    const peer = published.get(`${workload}/${publishedNames[policy] ?? ""}`);
    const fgd = published.get(`${workload}/06-FGD`);
    const over = (at: 100 | 130, other: readonly number[] | undefined): string => {
      const index = arrivedPct.indexOf(at);
      const difference = other === undefined ? undefined : means[index]! - other[index]!;
      if (difference === undefined) return "";
      return `${difference < 0 ? "" : "+"}${difference.toFixed(2)}`;
    };
    return [
      workload,
      policy,
      ...means.map((value) => value.toFixed(2)),
      deviation(at100).toFixed(2),
      peer?.[arrivedPct.indexOf(100)]?.toFixed(2) ?? "",
      over(100, peer),
      over(100, fgd),
      over(130, fgd),
    ];
  });
  const head = [
    "workload",
    "policy",
    ...arrivedPct.map((pct) => `@${pct}`),
    "sd@100",
    "published",
    "error",
    "FGD@100",
    "FGD@130",
  ];
  const widths = head.map((_, column) =>
    Math.max(...[head, ...rows].map((row) => row[column]!.length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => (at < 2 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
      .join("  ");
  const seeds = new Set(lines.map(({ seed }) => seed)).size;
  const legend =
    `GPUs given out, % of capacity, when arrivals reach @N %; mean of ${seeds} seed${seeds === 1 ? "" : "s"}.\n` +
    `published, error: the authors' mean at 100 % for the same policy, and ours less it.\n` +
    `FGD@N: ours less the published FGD, in points.`;
  return `${[head, ...rows].map((row) => line(row).trimEnd()).join("\n")}\n\n${legend}\n`;
}

/** Entry of the experiment; answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: { seeds: "42-51", policies: "default,fgd,bestfit", threads: "2" },
    optional: ["nodes", "pods", "published"],
  });
  if (values === undefined) return 0;
  const nodes = needed("nodes", values.nodes);
  const files = needed("pods", values.pods).split(",");
  const threads = countOf("threads", values.threads);
  const seeds = parseSeeds(values.seeds);
  const names = listOf(values.policies, policyOf);
  const published = await readPublished(values.published, files[0]!);
  await readNodeFile(nodes);
  for (const file of files) await readPodFile(file);
  const jobs = files.flatMap((pods) =>
    names.flatMap((policy) =>
      seeds.map((seed) => ({ pods, workload: workloadName(pods), policy, seed })),
    ),
  );
  const lines = await runJobs(jobs, { nodes, threads });
  process.stdout.write(table(lines, published));
  await writeRows(values.json, lines);
  return 0;
}
