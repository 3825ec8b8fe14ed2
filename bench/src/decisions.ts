/** Placement decisions a second on one core, with the shipped policy (goal G1). */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { PlacementEngine, policies } from "@fastgpu/scheduling/placement/engine";
import type { PolicyName } from "@fastgpu/scheduling/placement/engine";
import type { Placement } from "@fastgpu/scheduling/placement/cluster";
import type { Shape } from "@fastgpu/scheduling/placement/shapes";
import { toNodeSpec, toRequest } from "@fastgpu/simulation/openb/allocation";
import { seededRandom } from "@fastgpu/simulation/openb/seeded";
import type { OpenbNode, OpenbPod } from "@fastgpu/simulation/openb/trace";
import { readNodeFile, readPodFile, UsageError } from "./openb-files.ts";

const usage = `usage: npm run bench -- decisions --nodes FILE --pods FILE [flags]

  --nodes FILE      node list in openb format
  --pods FILE       pod list in openb format; arrivals are drawn from it
  --gpus N[,N]      cluster sizes (default 1000,10000,100000): nodes of the list, taken evenly
                    or repeated under new names, until they hold N GPUs
  --decisions N     decisions measured, after a fill to --fill (default 100000)
  --fill PCT        part of the GPUs given out, held by departures (default 85)
  --policy P        ${Object.keys(policies).join(", ")} (default default)
  --check N         decisions compared with a full scan after the last run (default 2000;
                    fewer on large clusters: about 4 million states looked at)
  --seed N          (default 42)
  --repeats N       runs per size; median and range are shown (default 5)
  --json OUT        one JSON object a line
`;

interface Setting {
  readonly nodes: readonly OpenbNode[];
  readonly pods: readonly OpenbPod[];
  readonly policy: PolicyName;
  readonly fillPct: number;
  readonly decisions: number;
  readonly seed: number;
}

interface Timing {
  readonly gpus: number;
  readonly nodes: number;
  /** Decisions a second of wall-clock time, departures included. */
  readonly perSecond: number;
  /** The same for a second of the thread's CPU time: what an idle core would give. */
  readonly perCpuSecond: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
  readonly maxMicros: number;
  readonly placedPct: number;
  readonly allocatedPct: number;
  readonly residentMib: number;
}

/** Nodes of a trace, thinned or repeated to about `gpus` GPUs. */
function nodesOf(nodes: readonly OpenbNode[], gpus: number): OpenbNode[] {
  const own = nodes.reduce((sum, node) => sum + node.gpus, 0);
  const total = Math.max(1, Math.round((nodes.length * gpus) / own));
  return Array.from({ length: total }, (_, index) => {
    const at = total < nodes.length ? Math.floor((index * nodes.length) / total) : index;
    const node = nodes[at % nodes.length]!;
    return { ...node, id: `${node.id}-${String(Math.floor(at / nodes.length)).padStart(3, "0")}` };
  });
}

/** A cluster under a steady load: arrivals from the list, departures that hold the fill. */
class Load {
  readonly engine: PlacementEngine;
  private readonly shapes: readonly Shape[];
  private readonly random: () => number;
  private readonly running: { readonly shape: Shape; readonly placement: Placement }[] = [];
  private readonly target: number;

  constructor(setting: Setting) {
    const { pods, seed, fillPct, policy } = setting;
    this.random = seededRandom(seed);
    const nodes = setting.nodes.map(toNodeSpec);
    this.engine = new PlacementEngine({ nodes, policy, rng: this.random });
    this.shapes = pods.map((pod) => this.engine.shape(toRequest(pod)));
    this.target = this.engine.cluster.capacityMilli * (1 - fillPct / 100);
    let refused = 0;
    while (this.engine.cluster.supply.freeMilli > this.target) {
      refused = this.decide(this.draw()) ? 0 : refused + 1;
      if (refused > 10 * pods.length) throw new UsageError(this.tooFull(fillPct));
    }
  }

  private tooFull(fillPct: number): string {
    const { supply, capacityMilli } = this.engine.cluster;
    const filled = 100 * (1 - supply.freeMilli / capacityMilli);
    return `--fill: these pods fill these nodes to ${filled.toFixed(1)} %, not to ${fillPct} %`;
  }

  /** Lets tasks depart until the fill is met again, and draws the next arrival. */
  next(): Shape {
    while (this.engine.cluster.supply.freeMilli < this.target && this.running.length > 0) {
      const at = Math.floor(this.random() * this.running.length);
      const gone = this.running[at]!;
      this.running[at] = this.running.at(-1)!;
      this.running.pop();
      this.engine.release(gone.shape, gone.placement);
    }
    return this.draw();
  }

  /** One decision; false where the task fits nowhere. */
  decide(shape: Shape): boolean {
    this.engine.observe(shape);
    const placement = this.engine.place(shape);
    if (placement === undefined) return false;
    this.running.push({ shape, placement });
    return true;
  }

  private draw(): Shape {
    return this.shapes[Math.floor(this.random() * this.shapes.length)]!;
  }
}

function measure(load: Load, setting: Setting): Timing {
  const { cluster } = load.engine;
  const micros = new Float64Array(setting.decisions);
  let placed = 0;
  const cpuBefore = process.threadCpuUsage();
  const started = performance.now();
  for (let decision = 0; decision < setting.decisions; decision++) {
    const shape = load.next();
    const before = performance.now();
    if (load.decide(shape)) placed++;
    micros[decision] = 1000 * (performance.now() - before);
  }
  const seconds = (performance.now() - started) / 1000;
  const cpu = process.threadCpuUsage(cpuBefore);
  micros.sort();
  const at = (part: number): number => micros[Math.floor(part * (micros.length - 1))]!;
  return {
    gpus: cluster.capacityMilli / 1000,
    nodes: cluster.nodes.length,
    perSecond: setting.decisions / seconds,
    perCpuSecond: (1e6 * setting.decisions) / (cpu.user + cpu.system),
    p50Micros: at(0.5),
    p99Micros: at(0.99),
    maxMicros: at(1),
    placedPct: (100 * placed) / setting.decisions,
    allocatedPct: 100 * (1 - cluster.supply.freeMilli / cluster.capacityMilli),
    residentMib: process.memoryUsage().rss / 2 ** 20,
  };
}

/** Compares `count` of the decisions to come with a full scan; throws on a difference. */
function checkAgainstScan(load: Load, setting: Setting, count: number): void {
  const every = Math.max(1, Math.floor(setting.decisions / 10 / count));
  for (let decision = 0; decision < count * every; decision++) {
    const shape = load.next();
    load.engine.observe(shape);
    if (decision % every === 0) {
      const scanned = load.engine.findByScan(shape);
      const found = load.engine.find(shape);
      if (JSON.stringify(scanned) !== JSON.stringify(found)) {
        const shown = `${JSON.stringify(found)}, the scan ${JSON.stringify(scanned)}`;
        throw new Error(`decision ${decision} of seed ${setting.seed}: fast path ${shown}`);
      }
    }
    load.decide(shape);
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function show(runs: readonly Timing[]): string {
  const rates = runs.map(({ perSecond }) => perSecond / 1000);
  const cpuRates = runs.map(({ perCpuSecond }) => perCpuSecond / 1000);
  const { gpus, nodes, placedPct, residentMib } = runs.at(-1)!;
  const cells = [
    String(gpus).padStart(7),
    String(nodes).padStart(6),
    median(rates).toFixed(1).padStart(7),
    `${Math.min(...rates).toFixed(1)}–${Math.max(...rates).toFixed(1)}`.padStart(13),
    median(cpuRates).toFixed(1).padStart(9),
    median(runs.map(({ p50Micros }) => p50Micros))
      .toFixed(1)
      .padStart(8),
    median(runs.map(({ p99Micros }) => p99Micros))
      .toFixed(1)
      .padStart(8),
    (median(runs.map(({ maxMicros }) => maxMicros)) / 1000).toFixed(1).padStart(7),
    placedPct.toFixed(1).padStart(7),
    residentMib.toFixed(0).padStart(8),
  ];
  return cells.join("  ");
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name}: "${text}" is no count`);
  return value;
}

async function run(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      nodes: { type: "string" },
      pods: { type: "string" },
      gpus: { type: "string", default: "1000,10000,100000" },
      decisions: { type: "string", default: "100000" },
      fill: { type: "string", default: "85" },
      policy: { type: "string", default: "default" },
      check: { type: "string", default: "2000" },
      seed: { type: "string", default: "42" },
      repeats: { type: "string", default: "5" },
      json: { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  if (values.nodes === undefined) throw new UsageError("--nodes is missing");
  if (values.pods === undefined) throw new UsageError("--pods is missing");
  if (!Object.hasOwn(policies, values.policy)) {
    throw new UsageError(`--policy: no policy "${values.policy}"`);
  }
  const policy = values.policy as PolicyName;
  const all = await readNodeFile(values.nodes);
  const pods = await readPodFile(values.pods);
  const decisions = positive("decisions", values.decisions);
  const fillPct = Number(values.fill);
  if (!(fillPct > 0 && fillPct < 100)) throw new UsageError(`--fill: "${values.fill}"`);
  const seed = positive("seed", values.seed);
  const repeats = positive("repeats", values.repeats);
  process.stdout.write(
    `policy ${policy}, fill ${fillPct} %, ${decisions} decisions, ${repeats} runs\n` +
      "   GPUs   nodes  1000/s         range  per CPU s    p50 µs    p99 µs   max ms  placed%  resident MiB\n",
  );
  const lines: string[] = [];
  for (const size of values.gpus.split(",")) {
    const nodes = nodesOf(all, positive("gpus", size));
    const setting = { nodes, pods, policy, fillPct, decisions, seed };
    const runs: Timing[] = [];
    let load: Load | undefined;
    while (runs.length < repeats) {
      load = new Load(setting);
      runs.push(measure(load, setting));
      const rate = runs.at(-1)!.perCpuSecond.toFixed(0);
      process.stderr.write(
        `decisions: ${size} GPUs, run ${runs.length} of ${repeats}: ${rate} a CPU second\n`,
      );
    }
    process.stdout.write(`${show(runs)}\n`);
    lines.push(...runs.map((timing) => JSON.stringify({ policy, fillPct, decisions, ...timing })));
    const budget = Math.max(100, Math.floor(4e6 / nodes.length));
    const checked = Math.min(positive("check", values.check), budget);
    if (policy !== "random" && load !== undefined) {
      checkAgainstScan(load, setting, checked);
      process.stderr.write(`decisions: ${checked} decisions equal to the full scan's\n`);
    }
  }
  if (values.json !== undefined) await writeFile(values.json, `${lines.join("\n")}\n`);
  return 0;
}

/** Entry of `npm run bench -- decisions`; answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await run(args);
  } catch (error) {
    const misuse = error instanceof UsageError || error instanceof TypeError;
    if (!misuse) throw error;
    process.stderr.write(`error: ${error.message}\ntry: npm run bench -- decisions --help\n`);
    return 2;
  }
}
