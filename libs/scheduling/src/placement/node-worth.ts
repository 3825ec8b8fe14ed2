import { classWeights } from "./class-weights.ts";
import type { WeightedClass } from "./class-weights.ts";
import type { Cluster } from "./cluster.ts";
import type { DefaultParameters } from "./default-policy.ts";
import type { GapPrices } from "./gap-price.ts";
import type { Mix } from "./mix.ts";
import type { HostDemand, Shape } from "./shapes.ts";

/** The classes that can run on one model, grouped by what they ask of its GPUs. */
interface ModelTable {
  readonly groups: number;
  readonly gpus: Int32Array;
  readonly milli: Int32Array;
  /** The classes of group k are start[k] to start[k + 1], those with least CPU first. */
  readonly start: Int32Array;
  /** Per class: CPU and memory that it needs … */
  readonly cpu: Int32Array;
  readonly memory: Int32Array;
  /** … the gap worth that one thousandth of a core and one MiB carry for it … */
  readonly byCpu: Float64Array;
  readonly byMemory: Float64Array;
  /** … and its weight. */
  readonly weight: Float64Array;
  /** Sums over a group's first classes, at class + group: of weight, and of weight × byCpu. */
  readonly weightSum: Float64Array;
  readonly weightByCpuSum: Float64Array;
  /** Per group: the gap worth that CPU carries for a class that needs one thousandth … */
  readonly cpuReach: Float64Array;
  /** … the most memory a class needs, and the least gap worth that one MiB carries. */
  readonly mostMemory: Int32Array;
  readonly leastByMemory: Float64Array;
}

/** A shape that goes to a state; `taken` is the shape itself, or less for a bound. */
export interface WorthStep {
  readonly slot: number;
  readonly shape: Shape;
  readonly taken: HostDemand;
}

/** U: what a node's free resources are worth to the classes still to come. */
export class NodeWorth {
  private readonly cluster: Cluster;
  private readonly parameters: DefaultParameters;
  private prices: GapPrices = new Int32Array(1001);
  private tables: ModelTable[] = [];
  private epoch = 0;
  private known = new Float64Array(0);
  private knownStamp = new Int32Array(0);
  private knownEpoch = new Int32Array(0);
  private readonly gaps: Int32Array;

  constructor(cluster: Cluster, parameters: DefaultParameters) {
    this.cluster = cluster;
    this.parameters = parameters;
    this.gaps = new Int32Array(cluster.states.mostGpus);
  }

  /** Takes in a mix and prices, with scarcity as it is now. */
  rebuild(mix: Mix, prices: GapPrices): void {
    this.epoch++;
    this.prices = prices;
    const weighted = classWeights(this.cluster, mix, this.parameters);
    this.tables = this.cluster.kinds.models.map((model) => this.table(weighted, model));
  }

  /** U of the state in a slot. */
  of(slot: number): number {
    const { states } = this.cluster;
    if (this.known.length < states.slots) {
      this.known = new Float64Array(states.users.length);
      this.knownStamp = new Int32Array(states.users.length).fill(-1);
      this.knownEpoch = new Int32Array(states.users.length);
    }
    if (this.knownStamp[slot] !== states.stamp[slot] || this.knownEpoch[slot] !== this.epoch) {
      this.knownStamp[slot] = states.stamp[slot]!;
      this.knownEpoch[slot] = this.epoch;
      this.load(slot);
      this.known[slot] = this.worth(slot, states.cpuMillis[slot]!, states.memoryMib[slot]!);
    }
    return this.known[slot]!;
  }

  /** U of the state after the step took the GPUs at `positions`. */
  after(step: WorthStep, positions: readonly number[]): number {
    const { states } = this.cluster;
    const { slot, shape, taken } = step;
    this.load(slot);
    const last = states.gpus[slot]! - 1;
    for (const position of positions) {
      const at = last - position;
      this.gaps[at] = Math.max(0, this.gaps[at]! - shape.gpuMilli);
    }
    const cpu = states.cpuMillis[slot]! - taken.cpuMillis;
    return this.worth(slot, cpu, states.memoryMib[slot]! - taken.memoryMib);
  }

  /** Reads a slot's gaps, widest first where they stand in order. */
  private load(slot: number): void {
    const { states } = this.cluster;
    const end = states.base[slot]! + states.gpus[slot]! - 1;
    for (let i = 0; i < states.gpus[slot]!; i++) this.gaps[i] = states.gap[end - i]!;
  }

  private worth(slot: number, cpu: number, memory: number): number {
    const { states, kinds } = this.cluster;
    const count = states.gpus[slot]!;
    if (count === 0) return 0;
    const { gaps, prices } = this;
    for (let i = 1; i < count; i++) {
      const gap = gaps[i]!;
      let at = i;
      for (; at > 0 && gaps[at - 1]! < gap; at--) gaps[at] = gaps[at - 1]!;
      gaps[at] = gap;
    }
    let idle = 0;
    while (idle < count && gaps[idle]! >= 1000) idle++;
    const table = this.tables[kinds.kinds[states.kind[states.base[slot]!]!]!.modelId];
    if (table === undefined) return 0;
    let reached = 0;
    let shareWorth = 0;
    let sum = 0;
    for (let group = 0; group < table.groups; group++) {
      const milli = table.milli[group]!;
      let room: number;
      if (milli >= 1000) {
        const gpus = table.gpus[group]!;
        if (idle < gpus) continue;
        room = (idle - (idle % gpus)) * 1000;
      } else {
        while (reached < count && gaps[reached]! >= milli) shareWorth += prices[gaps[reached++]!]!;
        room = shareWorth;
      }
      if (room === 0) continue;
      const ample =
        memory >= table.mostMemory[group]! && memory * table.leastByMemory[group]! >= room;
      sum += ample
        ? groupWorth(table, group, room, cpu)
        : tightGroupWorth(table, group, { room, cpu, memory });
    }
    return sum;
  }

  /** Merges the classes that differ only in what they ask of other models. */
  private table(classes: readonly WeightedClass[], model: string): ModelTable {
    const groups = new Map<number, Map<string, WeightedClass>>();
    for (const { shape, weight } of classes) {
      if (shape.models !== null && !shape.models.includes(model)) continue;
      const group = shape.gpuMilli * 128 + shape.gpus;
      const key = `${shape.cpuMillis}/${shape.memoryMib}`;
      const members = groups.get(group) ?? new Map<string, WeightedClass>();
      groups.set(group, members);
      const known = members.get(key);
      if (known === undefined) members.set(key, { shape, weight });
      else known.weight += weight;
    }
    const sorted = [...groups]
      .sort(([a], [b]) => b - a)
      .map(([, members]) =>
        [...members.values()].sort((a, b) => a.shape.cpuMillis - b.shape.cpuMillis),
      );
    return modelTable(sorted, { prices: this.prices, parameters: this.parameters });
  }
}

/**
 * Σ weight × min(room, what CPU carries) over a group's classes that CPU admits: the first
 * ones are limited by the room, the next by CPU, so sums over the first classes are enough.
 */
function groupWorth(table: ModelTable, group: number, room: number, cpu: number): number {
  const { cpu: needs, weightSum, weightByCpuSum } = table;
  const end = table.start[group + 1]!;
  const byRoom = Math.min(cpu, (cpu * table.cpuReach[group]!) / room);
  let at = table.start[group]!;
  while (at < end && needs[at]! <= byRoom) at++;
  const worth = room * weightSum[at + group]!;
  if (at === end || needs[at]! > cpu) return worth;
  const first = weightByCpuSum[at + group]!;
  while (at < end && needs[at]! <= cpu) at++;
  return worth + cpu * (weightByCpuSum[at + group]! - first);
}

/** The same where memory is a limit too. */
function tightGroupWorth(
  table: ModelTable,
  group: number,
  free: { readonly room: number; readonly cpu: number; readonly memory: number },
): number {
  const { room, cpu, memory } = free;
  const end = table.start[group + 1]!;
  let sum = 0;
  for (let at = table.start[group]!; at < end && table.cpu[at]! <= cpu; at++) {
    if (memory < table.memory[at]!) continue;
    const use = Math.min(room, cpu * table.byCpu[at]!, memory * table.byMemory[at]!);
    sum += table.weight[at]! * use;
  }
  return sum;
}

function modelTable(
  groups: readonly (readonly WeightedClass[])[],
  context: { readonly prices: GapPrices; readonly parameters: DefaultParameters },
): ModelTable {
  const { prices, parameters } = context;
  const classes = groups.flat();
  const own = ({ gpuMilli, gpus }: Shape): number =>
    gpuMilli >= 1000 ? 1000 * gpus : prices[gpuMilli]! * gpus;
  const per = (worth: number, amount: number): number =>
    amount === 0 ? Number.MAX_VALUE : worth / amount;
  const byCpu = Float64Array.from(classes, ({ shape }) =>
    per(parameters.cpuSlack * own(shape), shape.cpuMillis),
  );
  const byMemory = Float64Array.from(classes, ({ shape }) =>
    per(parameters.memorySlack * own(shape), shape.memoryMib),
  );
  const start = new Int32Array(groups.length + 1);
  const weightSum = new Float64Array(classes.length + groups.length);
  const weightByCpuSum = new Float64Array(classes.length + groups.length);
  const leastByMemory = new Float64Array(groups.length);
  for (const [group, members] of groups.entries()) {
    const first = start[group]!;
    start[group + 1] = first + members.length;
    leastByMemory[group] = Math.min(...byMemory.subarray(first, first + members.length));
    for (const [index, { shape, weight }] of members.entries()) {
      const at = first + index + group;
      weightSum[at + 1] = weightSum[at]! + weight;
      // A class without CPU is never limited by it.
      const rate = shape.cpuMillis === 0 ? 0 : weight * byCpu[first + index]!;
      weightByCpuSum[at + 1] = weightByCpuSum[at]! + rate;
    }
  }
  return {
    groups: groups.length,
    gpus: Int32Array.from(groups, (members) => members[0]!.shape.gpus),
    milli: Int32Array.from(groups, (members) => members[0]!.shape.gpuMilli),
    start,
    cpu: Int32Array.from(classes, ({ shape }) => shape.cpuMillis),
    memory: Int32Array.from(classes, ({ shape }) => shape.memoryMib),
    byCpu,
    byMemory,
    weight: Float64Array.from(classes, ({ weight }) => weight),
    weightSum,
    weightByCpuSum,
    cpuReach: Float64Array.from(groups, (members) => parameters.cpuSlack * own(members[0]!.shape)),
    mostMemory: Int32Array.from(groups, (members) =>
      Math.max(...members.map(({ shape }) => shape.memoryMib)),
    ),
    leastByMemory,
  };
}
