/**
 * The shipped policy: prices first, expected future pods second.
 *
 * 1. Lose as little gap worth (gap-price.ts) as possible, counting what the node's CPU cannot
 *    carry any more (carried-worth.ts) as lost.
 * 2. Among equals, keep the node as useful as possible for the classes still to come,
 *    each weighted by how often it arrives and how scarce the places are that it can use.
 */
import type { WeightParameters } from "./class-weights.ts";
import { gapPrices } from "./gap-price.ts";
import type { GapPrices, GapStock } from "./gap-price.ts";
import { NodeWorth } from "./node-worth.ts";
import type { WorthStep } from "./node-worth.ts";
import type { Policy, PolicyContext } from "./policy.ts";
import { Renewal } from "./renewal.ts";
import type { RenewalParameters } from "./renewal.ts";
import type { HostDemand, Shape } from "./shapes.ts";

/** The policy's constants: one set for every workload. */
export interface DefaultParameters extends WeightParameters, RenewalParameters {
  /** CPU carries the gap worth of the tasks that need least of it and are this part of all worth. */
  readonly leastCpuPart: number;
  /** Slack granted to CPU and memory before they limit a node's worth. */
  readonly cpuSlack: number;
  readonly memorySlack: number;
  /** The classes that carry this part of the weight of all that ask the same GPUs stand for them. */
  readonly commonPart: number;
  /** Prices look ahead to a full cluster, but at least to this part of the capacity. */
  readonly horizonPart: number;
}

export const defaultParameters: DefaultParameters = {
  scarcityOffsetMilli: 8000,
  scarcityPower: 1.5,
  scarcityCap: 50,
  reserveWeight: 0.3,
  reservePower: 2,
  leastCpuPart: 0.5,
  cpuSlack: 1.85,
  memorySlack: 2,
  commonPart: 0.97,
  horizonPart: 0.05,
  renewOnwardPart: 0.01,
  renewTurnedPart: 0.05,
  renewArrivalsPart: 0.01,
  renewArrivalsFactor: 1.25,
  renewMixPart: 0.05,
  renewFills: 4,
};

/** One unit of gap worth in a score: more than any difference of node worth. */
const priceUnit = 2 ** 37;
const worthUnit = 1024;

/** One number for a (negative) change of gap worth and, beneath it, a loss of node worth. */
function score(change: number, loss: number): number {
  return change * priceUnit - Math.min(priceUnit - 1, Math.round(loss * worthUnit));
}

class DefaultPolicy implements Policy {
  readonly name = "default";
  readonly anyNode = false;
  readonly sharesBounds = true;
  epoch = 0;
  private readonly context: PolicyContext;
  private readonly parameters: DefaultParameters;
  private readonly worth: NodeWorth;
  private readonly renewal: Renewal;
  private prices: GapPrices = gapPrices([]);
  private readonly picked: number[] = [];
  private readonly trial: number[] = [];

  constructor(context: PolicyContext, parameters: DefaultParameters) {
    this.context = context;
    this.parameters = parameters;
    this.worth = new NodeWorth(context.cluster, parameters);
    this.renewal = new Renewal(context.cluster, context.mix, parameters);
  }

  refresh(): void {
    if (!this.renewal.due()) return;
    this.renewal.renewed();
    this.prices = this.price();
    this.worth.rebuild(this.context.mix, this.prices);
    this.epoch++;
  }

  /** Gap prices for the shares expected until the cluster is full, beside the gaps open now. */
  private price(): GapPrices {
    const { mix, cluster } = this.context;
    const shares = new Map<number, number>();
    for (const { shape, count } of mix.classes) {
      const part = count / mix.total;
      if (shape.gpus === 0 || shape.gpuMilli >= 1000) continue;
      shares.set(shape.gpuMilli, (shares.get(shape.gpuMilli) ?? 0) + part * shape.gpus);
    }
    const { horizonPart } = this.parameters;
    const room = Math.max(cluster.supply.freeMilli, horizonPart * cluster.capacityMilli);
    const arrivals = (room / cluster.capacityMilli) * this.renewal.fillArrivals;
    const stock: GapStock[] = [];
    for (const [milli, count] of cluster.supply.gapCounts().entries()) {
      if (milli > 0 && milli < 1000 && count > 0) stock.push({ milli, count });
    }
    const demands = [...shares].map(([milli, part]) => ({ milli, count: part * arrivals }));
    return gapPrices(demands, stock);
  }

  /** The loss of gap worth exactly, that of node worth by the slopes of U at the state. */
  bound(slot: number, shape: Shape): number {
    const { worth } = this;
    const { cpuMillis } = shape.family;
    const row = worth.learn(slot);
    const host = worth.leastHostLoss(row, shape.family);
    if (shape.gpus === 0) return score(worth.carriedChange(slot, 0, cpuMillis), host);
    if (shape.gpuMilli >= 1000) {
      const idle = shape.mig === undefined ? worth.leastIdleLoss(slot, row, shape.gpus) : 0;
      return score(worth.carriedChange(slot, -1000 * shape.gpus, cpuMillis), host + idle);
    }
    if (shape.gpus > 1) {
      const change = this.pickSeveral(slot, shape, this.picked);
      return score(worth.carriedChange(slot, change, cpuMillis), host);
    }
    return this.shareBound(slot, shape, host);
  }

  /** The bound for a share of one GPU: the best of the GPUs that lose least gap worth. */
  private shareBound(slot: number, shape: Shape, host: number): number {
    const { states } = this.context.cluster;
    const { fitter } = this.context;
    const row = this.worth.learn(slot);
    const base = states.base[slot]!;
    const end = base + states.gpus[slot]!;
    const plain = fitter.isPlain(slot, shape);
    let best = Number.NEGATIVE_INFINITY;
    let loss = 0;
    let lastGap = -1;
    for (let at = base; at < end; at++) {
      const gap = states.gap[at]!;
      if (gap === lastGap) continue;
      if (plain ? states.freeMilli[at]! < shape.gpuMilli : !fitter.gpuFits(at, shape)) continue;
      lastGap = gap;
      const change = this.change(gap, shape);
      if (change < best) continue;
      const left = Math.max(0, gap - shape.gpuMilli);
      const gapLoss = this.worth.leastGapLoss(slot, row, { gap, left });
      loss = change > best ? gapLoss : Math.min(loss, gapLoss);
      best = change;
    }
    const price = this.worth.carriedChange(slot, best, shape.family.cpuMillis);
    return score(price, host + loss);
  }

  tighten(slot: number, shape: Shape): number {
    return this.scoreOf(slot, shape, shape.family);
  }

  score(slot: number, shape: Shape): number {
    return this.scoreOf(slot, shape, shape);
  }

  private scoreOf(slot: number, shape: Shape, taken: HostDemand): number {
    const change = this.pick(slot, shape, this.picked, taken);
    const price = this.worth.carriedChange(slot, change, taken.cpuMillis);
    const loss = this.worth.of(slot) - this.worth.after({ slot, shape, taken }, this.picked);
    return score(price, loss);
  }

  choose(slot: number, shape: Shape, positions: number[]): void {
    this.pick(slot, shape, positions, shape);
  }

  /** Picks GPUs by least loss of gap worth, then of node worth; answers the (negative) change. */
  private pick(
    slot: number,
    shape: Shape,
    picked: number[],
    taken: HostDemand | undefined,
  ): number {
    picked.length = 0;
    if (shape.gpus === 0) return 0;
    const { states } = this.context.cluster;
    const { fitter } = this.context;
    const base = states.base[slot]!;
    const count = states.gpus[slot]!;
    if (shape.gpuMilli >= 1000) {
      if (taken === undefined) return -1000 * shape.gpus;
      for (let i = 0; i < count && picked.length < shape.gpus; i++) {
        if (fitter.gpuFits(base + i, shape)) picked.push(i);
      }
      return -1000 * shape.gpus;
    }
    if (shape.gpus > 1) return this.pickSeveral(slot, shape, picked);
    let best = Number.NEGATIVE_INFINITY;
    let at = -1;
    let worth = Number.NaN;
    const milli = shape.gpuMilli;
    const plain = fitter.isPlain(slot, shape);
    let lastGap = -1;
    for (let i = 0; i < count; i++) {
      const gap = states.gap[base + i]!;
      if (gap === lastGap) continue;
      if (plain ? states.freeMilli[base + i]! < milli : !fitter.gpuFits(base + i, shape)) continue;
      lastGap = gap;
      const change = this.change(gap, shape);
      if (change < best) continue;
      if (change > best) {
        best = change;
        at = i;
        worth = Number.NaN;
      } else if (taken !== undefined) {
        if (Number.isNaN(worth)) worth = this.trialWorth({ slot, shape, taken }, at);
        const other = this.trialWorth({ slot, shape, taken }, i);
        if (other > worth) {
          worth = other;
          at = i;
        }
      }
    }
    picked.push(at);
    return best;
  }

  /** Equal parts of several GPUs: those that lose least, one by one. */
  private pickSeveral(slot: number, shape: Shape, picked: number[]): number {
    const { states } = this.context.cluster;
    const base = states.base[slot]!;
    let sum = 0;
    while (picked.length < shape.gpus) {
      let best = Number.NEGATIVE_INFINITY;
      let at = -1;
      for (let i = 0; i < states.gpus[slot]!; i++) {
        if (picked.includes(i) || !this.context.fitter.gpuFits(base + i, shape)) continue;
        const change = this.change(states.gap[base + i]!, shape);
        if (change > best) {
          best = change;
          at = i;
        }
      }
      picked.push(at);
      sum += best;
    }
    return sum;
  }

  private change(gap: number, shape: Shape): number {
    return this.prices[Math.max(0, gap - shape.gpuMilli)]! - this.prices[gap]!;
  }

  private trialWorth(step: WorthStep, position: number): number {
    this.trial[0] = position;
    return this.worth.after(step, this.trial);
  }
}

/** Makes the default policy; `parameters` are for experiments. */
export function createDefaultPolicy(
  context: PolicyContext,
  parameters: DefaultParameters = defaultParameters,
): Policy {
  return new DefaultPolicy(context, parameters);
}
