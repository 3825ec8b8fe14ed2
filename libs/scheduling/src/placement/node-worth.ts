import { worthPerCpu } from "./carried-worth.ts";
import { classWeights } from "./class-weights.ts";
import type { WeightedClass } from "./class-weights.ts";
import type { Cluster } from "./cluster.ts";
import type { DefaultParameters } from "./default-policy.ts";
import type { GapPrices } from "./gap-price.ts";
import type { Mix } from "./mix.ts";
import type { HostDemand, Shape } from "./shapes.ts";
import { briefIdle, briefWidth } from "./states.ts";

/** The classes that can run on one model, grouped by what they ask of its GPUs. */
interface ModelTable {
  readonly groups: number;
  readonly gpus: Int32Array;
  readonly milli: Int32Array;
  /** The classes of group k are in `columns` from start[k] to start[k + 1]. */
  readonly start: Int32Array;
  /** The groups before this one ask for whole GPUs. */
  readonly shares: number;
  /** The gap worth that a thousandth of a core carries for the tasks that need least. */
  readonly perCpu: number;
  /** By thousandths: the first group of shares that ask for no more. */
  readonly reach: Int16Array;
  /**
   * Per class: CPU and memory that it needs, the gap worth that one thousandth of a core
   * and one MiB carry for it, and its weight.
   */
  readonly columns: Float64Array;
}

const classColumns = 5;

/**
 * What is known of a slot: U; its slopes by CPU, memory and the first idle GPU; its gap worth; then
 * the slopes by group.
 */
const cpuSlopeAt = 1;
const memorySlopeAt = 2;
const idleSlopeAt = 3;
const gapWorthAt = 4;
const slopeAt = 5;
/** Part of U by which the sums behind a loss may be off: far above rounding, far below a loss. */
const roundingPart = 2 ** -40;

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
  /**
   * By slot: U; what U loses with a thousandth of a core, with a MiB, and of whole GPUs with an
   * idle one; and by group of classes what it loses with a thousandth of room in this group (of
   * whole GPUs: with one fit less), of shares in this group and all smaller ones.
   */
  private known = new Float64Array(0);
  private width = slopeAt;
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
    const part = this.parameters.leastCpuPart;
    // Models that serve the same classes have one table.
    const tables = new Map<string, ModelTable>();
    this.tables = this.cluster.kinds.models.map((model) => {
      const classes = weighted.filter(({ shape }) => shape.models?.includes(model) !== false);
      const key = classes.map(({ shape }) => shape.id).join();
      const known = tables.get(key);
      if (known !== undefined) return known;
      const table = this.table(classes, worthPerCpu(mix, prices, { model, part }));
      tables.set(key, table);
      return table;
    });
    const groups = this.tables.reduce((most, table) => Math.max(most, table.groups), 0);
    this.width = slopeAt + groups + 1;
  }

  /** U of the state in a slot. */
  of(slot: number): number {
    const at = this.learn(slot);
    return this.known[at]!;
  }

  /**
   * The (negative) change of gap worth when so much CPU goes with it: what is beyond the worth
   * that the CPU can carry is lost. Never more than `change`, though a node that had too little
   * CPU before loses less: a cheap place on a scarce model would draw tasks that can go elsewhere.
   */
  carriedChange(slot: number, change: number, cpuMillis: number): number {
    const { states } = this.cluster;
    const table = this.tableOf(slot);
    if (table === undefined || table.perCpu === Number.POSITIVE_INFINITY) return change;
    const cpu = states.cpuMillis[slot]!;
    const left = Math.floor(table.perCpu * (cpu - cpuMillis));
    if (left >= 1000 * states.gpus[slot]!) return change;
    const row = this.learn(slot);
    const worth = this.known[row + gapWorthAt]!;
    const before = Math.min(worth, Math.floor(table.perCpu * cpu));
    return Math.min(change, Math.min(worth + change, left) - before);
  }

  /**
   * No more than U loses when the host gives this much; `row` is what `learn` answered. Within
   * what limits each class now U is linear, beyond it U only falls faster (it is a sum of least
   * values), so its slopes bound every loss from below.
   */
  leastHostLoss(row: number, { cpuMillis, memoryMib }: HostDemand): number {
    const { known } = this;
    return (
      known[row + cpuSlopeAt]! * cpuMillis +
      known[row + memorySlopeAt]! * memoryMib -
      known[row]! * roundingPart
    );
  }

  /** The same for what `gpus` idle GPUs add to that loss. */
  leastIdleLoss(slot: number, row: number, gpus: number): number {
    const { known } = this;
    const at = row + slopeAt;
    const table = this.tableOf(slot);
    if (table === undefined) return 0;
    const loss = known[at + table.shares]! * 1000 * gpus;
    if (gpus === 1) return loss + known[row + idleSlopeAt]!;
    return loss + this.fitsLoss(slot, at, gpus);
  }

  /** The same for a gap of this many thousandths that shrinks to `left`. */
  leastGapLoss(slot: number, row: number, { gap, left }: { gap: number; left: number }): number {
    const { known, prices } = this;
    const at = row + slopeAt;
    const table = this.tableOf(slot);
    if (table === undefined) return 0;
    const both = known[at + table.reach[left]!]!;
    const before = known[at + table.reach[gap]!]!;
    const loss = both * (prices[gap]! - prices[left]!) + (before - both) * prices[gap]!;
    return gap < 1000 ? loss : loss + known[row + idleSlopeAt]!;
  }

  /** What the classes of whole GPUs lose with `gpus` idle ones, by the slopes at `at`. */
  private fitsLoss(slot: number, at: number, gpus: number): number {
    const table = this.tableOf(slot)!;
    const idle = this.cluster.states.brief[slot * briefWidth + briefIdle]!;
    let loss = 0;
    for (let group = 0; group < table.shares; group++) {
      const wanted = table.gpus[group]!;
      const fits = Math.trunc(idle / wanted) - Math.trunc((idle - gpus) / wanted);
      loss += this.known[at + group]! * fits;
    }
    return loss;
  }

  private tableOf(slot: number): ModelTable | undefined {
    const { states, kinds } = this.cluster;
    if (states.gpus[slot] === 0) return undefined;
    return this.tables[kinds.kinds[states.kind[states.base[slot]!]!]!.modelId];
  }

  /** Makes known what is asked of a slot; answers where it stands. */
  learn(slot: number): number {
    const { states } = this.cluster;
    const { width } = this;
    if (this.knownStamp.length < states.slots || this.known.length < states.slots * width) {
      this.known = new Float64Array(states.users.length * width);
      this.knownStamp = new Int32Array(states.users.length).fill(-1);
      this.knownEpoch = new Int32Array(states.users.length);
    }
    const at = slot * width;
    if (this.knownStamp[slot] !== states.stamp[slot] || this.knownEpoch[slot] !== this.epoch) {
      this.knownStamp[slot] = states.stamp[slot]!;
      this.knownEpoch[slot] = this.epoch;
      this.load(slot);
      this.known.fill(0, at, at + width);
      this.known[at] = this.sloped(slot, at);
    }
    return at;
  }

  /** `worth` of the slot as it is, with its slopes. */
  private sloped(slot: number, into: number): number {
    const { states } = this.cluster;
    const table = this.tableOf(slot);
    if (table === undefined) return 0;
    const cpu = states.cpuMillis[slot]!;
    const memory = states.memoryMib[slot]!;
    const count = states.gpus[slot]!;
    const { gaps, prices, known } = this;
    const idle = this.sort(count);
    const { start, columns } = table;
    let reached = 0;
    let shareWorth = 0;
    let sum = 0;
    let cpuSlope = 0;
    let memorySlope = 0;
    for (let group = 0; group < table.groups; group++) {
      const milli = table.milli[group]!;
      let room: number;
      if (milli >= 1000) {
        const gpus = table.gpus[group]!;
        room = Math.floor(idle / gpus) * gpus * 1000;
      } else {
        while (reached < count && gaps[reached]! >= milli) shareWorth += prices[gaps[reached++]!]!;
        room = shareWorth;
      }
      if (room === 0) continue;
      const end = start[group + 1]!;
      let roomSlope = 0;
      for (let at = start[group]!; at < end; at += classColumns) {
        if (cpu < columns[at]!) break;
        if (memory < columns[at + 1]!) continue;
        const byCpu = cpu * columns[at + 2]!;
        const byMemory = memory * columns[at + 3]!;
        const weight = columns[at + 4]!;
        let use = byCpu < room ? byCpu : room;
        if (byMemory < use) {
          use = byMemory;
          if (memory > 0) memorySlope += weight * columns[at + 3]!;
        } else if (use === room) roomSlope += weight;
        else if (cpu > 0) cpuSlope += weight * columns[at + 2]!;
        sum += weight * use;
      }
      known[into + slopeAt + group] =
        milli >= 1000 ? roomSlope * table.gpus[group]! * 1000 : roomSlope;
    }
    const first = into + slopeAt + table.shares;
    for (let at = into + slopeAt + table.groups - 1; at >= first; at--)
      known[at]! += known[at + 1]!;
    if (idle > 0) known[into + idleSlopeAt] = this.fitsLoss(slot, into + slopeAt, 1);
    let gapWorth = 0;
    for (let i = 0; i < count; i++) gapWorth += prices[gaps[i]!]!;
    known[into + gapWorthAt] = gapWorth;
    known[into + cpuSlopeAt] = cpuSlope;
    known[into + memorySlopeAt] = memorySlope;
    return sum;
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

  /** Brings the gaps that were read into order, widest first; answers how many are whole GPUs. */
  private sort(count: number): number {
    const { gaps } = this;
    for (let i = 1; i < count; i++) {
      const gap = gaps[i]!;
      let at = i;
      for (; at > 0 && gaps[at - 1]! < gap; at--) gaps[at] = gaps[at - 1]!;
      gaps[at] = gap;
    }
    let idle = 0;
    while (idle < count && gaps[idle]! >= 1000) idle++;
    return idle;
  }

  private worth(slot: number, cpu: number, memory: number): number {
    const table = this.tableOf(slot);
    if (table === undefined) return 0;
    const count = this.cluster.states.gpus[slot]!;
    const { gaps, prices } = this;
    const idle = this.sort(count);
    const { start, columns } = table;
    let reached = 0;
    let shareWorth = 0;
    let sum = 0;
    for (let group = 0; group < table.groups; group++) {
      const milli = table.milli[group]!;
      let room: number;
      if (milli >= 1000) {
        const gpus = table.gpus[group]!;
        room = Math.floor(idle / gpus) * gpus * 1000;
      } else {
        while (reached < count && gaps[reached]! >= milli) shareWorth += prices[gaps[reached++]!]!;
        room = shareWorth;
      }
      if (room === 0) continue;
      const end = start[group + 1]!;
      for (let at = start[group]!; at < end; at += classColumns) {
        if (cpu < columns[at]!) break;
        if (memory < columns[at + 1]!) continue;
        const byCpu = cpu * columns[at + 2]!;
        const byMemory = memory * columns[at + 3]!;
        let use = byCpu < room ? byCpu : room;
        if (byMemory < use) use = byMemory;
        sum += columns[at + 4]! * use;
      }
    }
    return sum;
  }

  /** Merges the classes of a model that differ only in what they ask of other models. */
  private table(classes: readonly WeightedClass[], perCpu: number): ModelTable {
    const groups = new Map<number, Map<string, WeightedClass>>();
    for (const { shape, weight } of classes) {
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
        commonest([...members.values()], this.parameters.commonPart).sort(
          (a, b) => a.shape.cpuMillis - b.shape.cpuMillis,
        ),
      );
    const start = new Int32Array(sorted.length + 1);
    for (const [index, members] of sorted.entries()) {
      start[index + 1] = start[index]! + members.length * classColumns;
    }
    const milli = Int32Array.from(sorted, (members) => members[0]!.shape.gpuMilli);
    const shares = milli.filter((amount) => amount >= 1000).length;
    const reach = Int16Array.from({ length: 1001 }, (_, gap) => {
      const first = milli.findIndex((amount) => amount < 1000 && amount <= gap);
      return first < 0 ? milli.length : first;
    });
    return {
      groups: sorted.length,
      perCpu,
      gpus: Int32Array.from(sorted, (members) => members[0]!.shape.gpus),
      milli,
      shares,
      reach,
      start,
      columns: Float64Array.from(sorted.flat().flatMap((entry) => this.columns(entry))),
    };
  }

  private columns({ shape, weight }: WeightedClass): number[] {
    const { cpuSlack, memorySlack } = this.parameters;
    const own =
      shape.gpuMilli >= 1000 ? 1000 * shape.gpus : this.prices[shape.gpuMilli]! * shape.gpus;
    const per = (slack: number, amount: number): number =>
      amount === 0 ? Number.MAX_VALUE : (slack * own) / amount;
    const { cpuMillis, memoryMib } = shape;
    return [cpuMillis, memoryMib, per(cpuSlack, cpuMillis), per(memorySlack, memoryMib), weight];
  }
}

/**
 * The classes of a group that carry most of its weight; each of the others, of which there can
 * be many, lends its weight to the one that is most like it.
 */
function commonest(members: WeightedClass[], part: number): WeightedClass[] {
  members.sort((a, b) => b.weight - a.weight);
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  const kept: WeightedClass[] = [];
  let covered = 0;
  for (const member of members) {
    if (covered < part * total) {
      covered += member.weight;
      kept.push(member);
    } else mostAlike(kept, member.shape).weight += member.weight;
  }
  return kept;
}

function mostAlike(kept: readonly WeightedClass[], { cpuMillis, memoryMib }: Shape): WeightedClass {
  const distance = ({ shape }: WeightedClass): number =>
    Math.abs(Math.log((shape.cpuMillis + 1) / (cpuMillis + 1))) +
    Math.abs(Math.log((shape.memoryMib + 1) / (memoryMib + 1)));
  return kept.reduce((best, member) => (distance(member) < distance(best) ? member : best));
}
