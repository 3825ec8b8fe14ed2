/** Fragmentation gradient descent: Weng et al., USENIX ATC 2023. */
import type { Policy, PolicyContext } from "./policy.ts";
import type { Shape } from "./shapes.ts";

/** Classes that make up this part of all arrivals, commonest first, stand for the workload, as published. */
const coveredPart = 0.95;

class FgdPolicy implements Policy {
  readonly name = "fgd";
  readonly anyNode = false;
  readonly sharesBounds = false;
  epoch = 0;
  private readonly context: PolicyContext;
  private builtArrivals = 0;
  private classes: { readonly shape: Shape; readonly part: number }[] = [];
  private readonly gaps: number[] = [];
  private readonly picked: number[] = [];

  constructor(context: PolicyContext) {
    this.context = context;
  }

  refresh(): void {
    const { mix } = this.context;
    if (mix.arrivals < Math.max(1, this.builtArrivals * 1.25)) return;
    this.builtArrivals = mix.arrivals;
    const merged = new Map<string, { shape: Shape; count: number }>();
    for (const { shape, count } of mix.classes) {
      const key = `${shape.gpus}/${shape.gpuMilli}/${shape.cpuMillis}/${shape.models?.join("|")}`;
      const known = merged.get(key);
      if (known === undefined) merged.set(key, { shape, count });
      else known.count += count;
    }
    const sorted = [...merged.values()].toSorted((a, b) => b.count - a.count);
    let covered = 0;
    let kept = 0;
    while (kept < sorted.length && covered < coveredPart * mix.total)
      covered += sorted[kept++]!.count;
    this.classes = sorted
      .slice(0, kept)
      .map(({ shape, count }) => ({ shape, part: count / covered }));
    this.epoch++;
  }

  bound(slot: number, shape: Shape): number {
    return this.score(slot, shape);
  }

  score(slot: number, shape: Shape): number {
    return this.pick(slot, shape, this.picked);
  }

  choose(slot: number, shape: Shape, positions: number[]): void {
    this.pick(slot, shape, positions);
  }

  /** int(100 · sigmoid((fragment before − after) / 1000)): the truncation is part of the policy. */
  private pick(slot: number, shape: Shape, picked: number[]): number {
    const { cluster, fitter } = this.context;
    const { states } = cluster;
    const base = states.base[slot]!;
    const cpu = states.cpuMillis[slot]!;
    this.gaps.length = 0;
    for (let i = 0; i < states.gpus[slot]!; i++) this.gaps.push(states.gap[base + i]!);
    const before = this.fragment(slot, cpu);
    picked.length = 0;
    const rest = cpu - shape.cpuMillis;
    if (shape.gpus === 1 && shape.gpuMilli < 1000) {
      let best = -1;
      let at = -1;
      for (let i = 0; i < this.gaps.length; i++) {
        if (!fitter.gpuFits(base + i, shape)) continue;
        const gap = this.gaps[i]!;
        this.gaps[i] = gap - shape.gpuMilli;
        const score = truncated(before - this.fragment(slot, rest));
        this.gaps[i] = gap;
        if (score > best) {
          best = score;
          at = i;
        }
      }
      picked.push(at);
      return best;
    }
    for (let i = 0; i < this.gaps.length && picked.length < shape.gpus; i++) {
      if (!fitter.gpuFits(base + i, shape)) continue;
      picked.push(i);
      this.gaps[i]! -= shape.gpuMilli;
    }
    return truncated(before - this.fragment(slot, rest));
  }

  /** Expected idle thousandths that a class drawn from the mix cannot use. */
  private fragment(slot: number, cpu: number): number {
    const { states, kinds } = this.context.cluster;
    if (this.gaps.length === 0) return 0;
    const { model } = kinds.kinds[states.kind[states.base[slot]!]!]!;
    let total = 0;
    for (const gap of this.gaps) total += gap;
    let sum = 0;
    for (const { shape, part } of this.classes) {
      let usable = 0;
      let fitting = 0;
      if (shape.gpus > 0 && cpu >= shape.cpuMillis && (shape.models?.includes(model) ?? true)) {
        for (const gap of this.gaps) {
          if (gap < shape.gpuMilli) continue;
          usable += gap;
          fitting++;
        }
      }
      sum += part * (fitting >= shape.gpus ? total - usable : total);
    }
    return sum;
  }
}

function truncated(difference: number): number {
  return Math.trunc(100 / (1 + Math.exp(-difference / 1000)));
}

/** Makes the FGD policy. */
export function createFgdPolicy(context: PolicyContext): Policy {
  return new FgdPolicy(context);
}
