/** How much each class of tasks counts when a node's future use is judged. */
import type { Cluster } from "./cluster.ts";
import type { Mix } from "./mix.ts";
import { servingModels } from "./serving-models.ts";
import type { Shape } from "./shapes.ts";

/** The constants of class weights. */
export interface WeightParameters {
  /** Scarcity = ((free + offset) / (usable + offset)) ** power, within [1, cap]. */
  readonly scarcityOffsetMilli: number;
  readonly scarcityPower: number;
  readonly scarcityCap: number;
  /** Weight of keeping room for classes that only some models serve … */
  readonly reserveWeight: number;
  /** … times (their expected demand / what they can use) ** power. */
  readonly reservePower: number;
}

/** A class and its weight. */
export interface WeightedClass {
  readonly shape: Shape;
  weight: number;
}

/** Demand of one class until the cluster is full. */
interface Demand {
  readonly entry: WeightedClass;
  /** Allowed models as bits. */
  readonly models: number;
  readonly milli: number;
}

/**
 * Weight of each GPU class: its frequency per GPU, raised while the places that it can use
 * run short beside all that is free, and raised again where future tasks of the same or
 * narrower demands are likely to need those places.
 */
export function classWeights(
  cluster: Cluster,
  mix: Mix,
  parameters: WeightParameters,
): WeightedClass[] {
  const { scarcityOffsetMilli: offset, scarcityPower, scarcityCap } = parameters;
  const { supply } = cluster;
  const weighted: WeightedClass[] = [];
  const demands: Demand[] = [];
  let milliPerArrival = 0;
  for (const { shape, count } of mix.classes) {
    milliPerArrival += (count / mix.total) * shape.gpus * shape.gpuMilli;
  }
  const serving = servingModels(cluster);
  for (const { shape: asked, count } of mix.classes) {
    if (asked.gpus === 0) continue;
    const shape = serving(asked);
    const part = count / mix.total;
    const milli = shape.gpus * shape.gpuMilli;
    const scarcity = (supply.freeMilli + offset) / (supply.usableMilli(shape) + offset);
    const factor = Math.min(scarcityCap, Math.max(1, scarcity ** scarcityPower));
    const entry = { shape, weight: ((1000 * part) / milli) * factor };
    weighted.push(entry);
    const expected = (part * milli * supply.freeMilli) / milliPerArrival;
    demands.push({ entry, models: modelBits(cluster, shape), milli: expected });
  }
  reserve(cluster, demands, parameters);
  return weighted;
}

function modelBits(cluster: Cluster, shape: Shape): number {
  const { models } = cluster.kinds;
  if (shape.models === null) return 2 ** models.length - 1;
  return shape.models.reduce((bits, model) => {
    const at = models.indexOf(model);
    return at < 0 ? bits : bits | (1 << at);
  }, 0);
}

/** Adds the weight of keeping room for classes bound to some models. */
function reserve(cluster: Cluster, demands: readonly Demand[], parameters: WeightParameters): void {
  const { scarcityOffsetMilli: offset, reserveWeight, reservePower } = parameters;
  const all = 2 ** cluster.kinds.models.length - 1;
  for (const { entry, models, milli } of demands) {
    if (models === all) continue;
    const { gpus } = entry.shape;
    let competing = 0;
    let alike = 0;
    for (const other of demands) {
      const narrower = (other.models & ~models) === 0;
      if (!narrower || (gpus > 1 && other.entry.shape.gpus < gpus)) continue;
      competing += other.milli;
      if (other.models === models && other.entry.shape.gpus === gpus) alike += other.milli;
    }
    const usable = cluster.supply.usableMilli(entry.shape);
    const pressure = Math.min(1, (competing + offset) / (usable + offset)) ** reservePower;
    if (alike > 0) entry.weight += reserveWeight * (milli / alike) * pressure;
  }
}
