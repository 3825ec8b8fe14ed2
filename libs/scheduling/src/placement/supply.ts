import type { GpuKinds } from "./nodes.ts";
import type { Shape } from "./shapes.ts";
import type { StateTable } from "./states.ts";

/**
 * How much is free in the cluster, by model, kept up to date with each change of a node:
 * counts of GPUs by gap, and of nodes by their number of idle GPUs.
 */
export class Supply {
  /** Free thousandths over all GPUs. */
  freeMilli = 0;
  /** The same by model, in the order of `GpuKinds.models`; models not met yet are missing. */
  readonly freeByModel: number[] = [];
  private readonly states: StateTable;
  private readonly kinds: GpuKinds;
  private readonly gapCount: Int32Array[] = [];
  private readonly idleCount: Int32Array[] = [];
  /** By model: at g the thousandths in gaps of g and more; as of the last question. */
  private readonly inGaps: Float64Array[] = [];
  private summed = false;
  /** Nodes with GPUs of more than one model. */
  private mixedNodes = 0;

  constructor(states: StateTable, kinds: GpuKinds) {
    this.states = states;
    this.kinds = kinds;
  }

  /** Adds (`sign` 1) or removes (`sign` -1) one node in the slot. */
  count(slot: number, sign: 1 | -1): void {
    const { states } = this;
    if (states.schedulable[slot] === 0) return;
    this.summed = false;
    const base = states.base[slot]!;
    const end = base + states.gpus[slot]!;
    let models = 0;
    for (let at = base; at < end;) {
      models++;
      const model = this.kinds.kinds[states.kind[at]!]!.modelId;
      this.open(model);
      const gaps = this.gapCount[model]!;
      let idle = 0;
      let free = 0;
      while (at < end && this.kinds.kinds[states.kind[at]!]!.modelId === model) {
        const gap = states.gap[at]!;
        gaps[gap]! += sign;
        free += gap;
        if (gap === 1000) idle++;
        at++;
      }
      this.freeMilli += sign * free;
      this.freeByModel[model]! += sign * free;
      this.idleCount[model]![idle]! += sign;
    }
    if (models > 1) this.mixedNodes += sign;
  }

  /**
   * No more thousandths than these fit of a shape of whole GPUs, looking at models and GPU shapes only: what it could
   * use, and where nodes mix models that it may take together, all that is idle.
   */
  mostMilli(shape: Shape): number {
    if (this.mixedNodes === 0 || shape.models?.length === 1) return this.usableMilli(shape);
    this.sum();
    let idle = 0;
    for (const [model, gaps] of this.inGaps.entries()) {
      if (shape.models?.includes(this.kinds.models[model]!) === false) continue;
      idle += gaps[1000]!;
    }
    return idle;
  }

  /** Free thousandths that a shape could use, looking at models and GPU shapes only. A node's models count apart. */
  usableMilli(shape: Shape): number {
    let usable = 0;
    this.sum();
    for (let model = 0; model < this.gapCount.length; model++) {
      if (shape.models !== null && !shape.models.includes(this.kinds.models[model]!)) continue;
      if (shape.gpuMilli < 1000) {
        usable += this.inGaps[model]![shape.gpuMilli]!;
      } else {
        const nodes = this.idleCount[model]!;
        for (let idle = shape.gpus; idle < nodes.length; idle++) {
          usable += Math.floor(idle / shape.gpus) * shape.gpus * 1000 * nodes[idle]!;
        }
      }
    }
    return usable;
  }

  /** Thousandths of idle GPUs of the models that a shape may take (none given: of all), wherever they lie. */
  idleMilli(shape?: Shape): number {
    let idle = 0;
    for (const [model, nodes] of this.idleCount.entries()) {
      if (shape?.models?.includes(this.kinds.models[model]!) === false) continue;
      for (let count = 1; count < nodes.length; count++) idle += count * nodes[count]!;
    }
    return 1000 * idle;
  }

  /** Counts of GPUs by gap, over all models: index g counts GPUs with g thousandths free. */
  gapCounts(): Int32Array {
    const sum = new Int32Array(1001);
    for (const gaps of this.gapCount) for (let gap = 0; gap <= 1000; gap++) sum[gap]! += gaps[gap]!;
    return sum;
  }

  private sum(): void {
    if (this.summed) return;
    this.summed = true;
    for (const [model, gaps] of this.gapCount.entries()) {
      const sums = this.inGaps[model]!;
      for (let gap = 1000; gap > 0; gap--) sums[gap] = sums[gap + 1]! + gap * gaps[gap]!;
    }
  }

  private open(model: number): void {
    while (this.gapCount.length <= model) {
      this.freeByModel.push(0);
      this.gapCount.push(new Int32Array(1001));
      this.inGaps.push(new Float64Array(1002));
      this.idleCount.push(new Int32Array(this.states.mostGpus + 1));
    }
  }
}
