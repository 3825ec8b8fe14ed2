/** Placement decisions a second on one core, with the shipped policy (goal G1). */
import { PlacementEngine, policies } from "@fastgpu/scheduling/placement/engine";
import type { PolicyName } from "@fastgpu/scheduling/placement/engine";
import type { Placement } from "@fastgpu/scheduling/placement/cluster";
import type { Shape } from "@fastgpu/scheduling/placement/shapes";
import { toNodeSpec, toRequest } from "@fastgpu/simulation/openb/allocation";
import { seededRandom } from "@fastgpu/simulation/openb/seeded";
import type { OpenbNode, OpenbPod } from "@fastgpu/simulation/openb/trace";
import { median } from "./figures.ts";
import { countOf, flagsOf, listOf, needed, numberOf, UsageError, writeRows } from "./flags.ts";
import { readNodeFile, readPodFile } from "./openb-files.ts";

const usage = `usage: npm run bench -- decisions --nodes FILE --pods FILE [flags]

  --nodes FILE      node list in openb format
  --pods FILE       pod list in openb format; arrivals are drawn from it
  --gpus N[,N]      cluster sizes (default 1000,10000,100000): nodes of the list, taken evenly
                    or repeated under new names, until they hold N GPUs
  --decisions N     decisions measured, after a fill to --fill (default 100000)
  --fill PCT        part of the GPUs given out, held by departures (default 85)
  --policy P        ${Object.keys(policies).join(", ")} (default default)
  --check N         decisions compared with a full scan after the last run (default 2000; 0: none;
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

/** Entry of the experiment; answers the exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: {
      ...{ gpus: "1000,10000,100000", decisions: "100000", fill: "85", policy: "default" },
      ...{ check: "2000", seed: "42", repeats: "5" },
    },
    optional: ["nodes", "pods"],
  });
  if (values === undefined) return 0;
  if (!Object.hasOwn(policies, values.policy)) {
    throw new UsageError(`--policy: no policy "${values.policy}"`);
  }
  const policy = values.policy as PolicyName;
  const all = await readNodeFile(needed("nodes", values.nodes));
  const pods = await readPodFile(needed("pods", values.pods));
  const decisions = countOf("decisions", values.decisions);
  const fillPct = numberOf("fill", values.fill, { least: 1, most: 99 });
  const seed = countOf("seed", values.seed);
  const repeats = countOf("repeats", values.repeats);
  const check = countOf("check", values.check, 0);
  const sizes = listOf(values.gpus, (text) => countOf("gpus", text));
  process.stdout.write(
    `policy ${policy}, fill ${fillPct} %, ${decisions} decisions, ${repeats} run${repeats === 1 ? "" : "s"}\n` +
      "   GPUs   nodes  1000/s         range  per CPU s    p50 µs    p99 µs   max ms  placed%  resident MiB\n",
  );
  const rows: object[] = [];
  for (const size of sizes) {
    const nodes = nodesOf(all, size);
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
    rows.push(...runs.map((timing) => ({ policy, fillPct, decisions, ...timing })));
    const budget = Math.max(100, Math.floor(4e6 / nodes.length));
    const checked = Math.min(check, budget);
    if (policy !== "random" && load !== undefined && checked > 0) {
      checkAgainstScan(load, setting, checked);
      process.stderr.write(`decisions: ${checked} decisions equal to the full scan's\n`);
    }
  }
  await writeRows(values.json, rows);
  return 0;
}
