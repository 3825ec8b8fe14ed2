import type { GapPrices } from "./gap-price.ts";
import type { Mix } from "./mix.ts";

/**
 * How much gap worth a thousandth of a core carries on a model's nodes: what it carries, on
 * average, for the tasks that need least CPU for their worth and make up `part` of all worth.
 *
 * A node with little CPU can be filled with such tasks, for others go elsewhere; beyond what
 * they would use of its GPUs, its gaps are worth nothing. Infinity where nothing is known or needed.
 */
export function worthPerCpu(
  mix: Mix,
  prices: GapPrices,
  { model, part }: { readonly model: string; readonly part: number },
): number {
  const needs: { readonly perWorth: number; readonly worth: number }[] = [];
  let total = 0;
  for (const { shape, count } of mix.classes) {
    const { gpus, gpuMilli, cpuMillis, models } = shape;
    const own = gpus * (gpuMilli >= 1000 ? 1000 : prices[gpuMilli]!);
    if (own === 0 || models?.includes(model) === false) continue;
    needs.push({ perWorth: cpuMillis / own, worth: count * own });
    total += count * own;
  }
  needs.sort((a, b) => a.perWorth - b.perWorth);
  let left = part * total;
  let cpu = 0;
  for (const { perWorth, worth } of needs) {
    const used = Math.min(worth, left);
    cpu += used * perWorth;
    left -= used;
    if (left <= 0) break;
  }
  return cpu === 0 ? Number.POSITIVE_INFINITY : (part * total) / cpu;
}
