import { byLoss, flatVictims } from "@fastgpu/scheduling/order/room";
import type { Candidate, Room } from "@fastgpu/scheduling/order/room";

/** GPUs that jobs of known width take and give back. Jobs are named by their index. */
export interface Pool extends Room {
  /** GPUs free on nodes that are partly taken, in thousandths: what a whole-node gang cannot use. */
  strandedMilli(): number;
}

/** A pool where any GPU is as good as another. */
export class FlatPool implements Pool {
  readonly capacityMilli: number;
  private readonly gpusOf: (job: number) => number;
  private free: number;

  constructor(gpus: number, gpusOf: (job: number) => number) {
    this.capacityMilli = gpus * 1000;
    this.gpusOf = gpusOf;
    this.free = gpus;
  }

  freeMilli(): number {
    return this.free * 1000;
  }

  strandedMilli(): number {
    return 0;
  }

  place(job: number): boolean {
    const gpus = this.gpusOf(job);
    if (gpus > this.free) return false;
    this.free -= gpus;
    return true;
  }

  release(job: number): void {
    this.free += this.gpusOf(job);
  }

  restore(job: number): boolean {
    return this.place(job);
  }

  victims(job: number, candidates: readonly Candidate[]): readonly number[] | undefined {
    return flatVictims((this.gpusOf(job) - this.free) * 1000, candidates);
  }
}

/** What one job holds: [node, GPUs] pairs. */
type Holding = readonly (readonly [node: number, gpus: number])[];

/**
 * Nodes of equal size. A job that fits in a node stays within one, where it leaves the fewest GPUs free (best fit); a
 * wider one takes whole nodes, and its remainder is placed like a small job.
 */
export class NodePool implements Pool {
  readonly capacityMilli: number;
  private readonly size: number;
  private readonly gpusOf: (job: number) => number;
  private readonly freeOf: number[];
  private readonly held = new Map<number, Holding>();
  /** Where released jobs ran, for `restore`. */
  private readonly former = new Map<number, Holding>();
  private free: number;

  /** Throws RangeError unless the nodes make up the GPUs exactly. */
  constructor(options: {
    readonly gpus: number;
    readonly gpusPerNode: number;
    readonly gpusOf: (job: number) => number;
  }) {
    const { gpus, gpusPerNode } = options;
    if (gpus % gpusPerNode !== 0) {
      throw new RangeError(`${gpus} GPUs are not a whole number of ${gpusPerNode}-GPU nodes`);
    }
    this.capacityMilli = gpus * 1000;
    this.size = gpusPerNode;
    this.gpusOf = options.gpusOf;
    this.freeOf = Array.from({ length: gpus / gpusPerNode }, () => gpusPerNode);
    this.free = gpus;
  }

  freeMilli(): number {
    return this.free * 1000;
  }

  strandedMilli(): number {
    return this.freeOf.reduce((sum, free) => sum + (free === this.size ? 0 : free), 0) * 1000;
  }

  place(job: number): boolean {
    const holding = this.find(this.gpusOf(job));
    if (holding === undefined) return false;
    this.take(job, holding);
    return true;
  }

  release(job: number): void {
    const holding = this.held.get(job);
    if (holding === undefined) throw new RangeError(`job ${job} holds nothing`);
    for (const [node, gpus] of holding) this.freeOf[node]! += gpus;
    this.free += this.gpusOf(job);
    this.held.delete(job);
    this.former.set(job, holding);
  }

  restore(job: number): boolean {
    const holding = this.former.get(job);
    if (holding === undefined) throw new RangeError(`job ${job} was not released`);
    if (holding.some(([node, gpus]) => this.freeOf[node]! < gpus)) return false;
    this.take(job, holding);
    return true;
  }

  victims(job: number, candidates: readonly Candidate[]): readonly number[] | undefined {
    const onNode = new Map<number, Candidate[]>();
    for (const candidate of candidates) {
      for (const [node] of this.held.get(candidate.slot) ?? []) {
        const list = onNode.get(node);
        if (list === undefined) onNode.set(node, [candidate]);
        else list.push(candidate);
      }
    }
    const gpus = this.gpusOf(job);
    const whole = Math.floor(gpus / this.size);
    const rest = gpus % this.size;
    const chosen = new Set<number>();
    const used = new Set<number>();
    for (let count = 0; count < whole + (rest > 0 ? 1 : 0); count++) {
      const need = count < whole ? this.size : rest;
      const best = this.cheapestNode(need, onNode, used, chosen);
      if (best === undefined) return undefined;
      used.add(best.node);
      for (const victim of best.victims) chosen.add(victim);
    }
    return [...chosen];
  }

  /** Empties one node after another of jobs that fit elsewhere, where that loses least, until the job fits. */
  compact(job: number, movable: () => readonly Candidate[]): readonly number[] | undefined {
    const gpus = this.gpusOf(job);
    if (gpus > this.size || gpus > this.free) return undefined;
    const movers = this.moversFor(gpus, movable());
    if (movers === undefined) return undefined;
    for (const mover of movers) this.release(mover);
    if (![job, ...movers].every((each) => this.place(each))) {
      throw new Error(`the moves for job ${job} do not work out`);
    }
    return movers;
  }

  private moversFor(gpus: number, movable: readonly Candidate[]): readonly number[] | undefined {
    const onNode = new Map<number, Candidate[]>();
    for (const candidate of movable) {
      const holding = this.held.get(candidate.slot)!;
      if (holding.length > 1) continue;
      const [[node]] = holding as [readonly [number, number]];
      const list = onNode.get(node);
      if (list === undefined) onNode.set(node, [candidate]);
      else list.push(candidate);
    }
    let best: readonly number[] | undefined;
    let bestLoss = Number.POSITIVE_INFINITY;
    for (let node = 0; node < this.freeOf.length; node++) {
      const movers = this.moversOff(node, gpus, onNode.get(node) ?? []);
      if (movers === undefined || movers.lossGpuMs >= bestLoss) continue;
      best = movers.jobs;
      bestLoss = movers.lossGpuMs;
    }
    return best !== undefined && this.worksOut(gpus, best) ? best : undefined;
  }

  /** Whether the movers find places one by one once they are out and the job is in, as they will be placed. */
  private worksOut(gpus: number, movers: readonly number[]): boolean {
    const free = this.freeOf.slice();
    const placed = (width: number): boolean => {
      const node = bestFit(free, width);
      if (node >= 0) free[node]! -= width;
      return node >= 0;
    };
    for (const mover of movers)
      for (const [node, held] of this.held.get(mover)!) free[node]! += held;
    return placed(gpus) && movers.every((mover) => placed(this.gpusOf(mover)));
  }

  /** Jobs whose leaving makes so many GPUs free on a node, if each fits on another node; the widest first. */
  private moversOff(
    node: number,
    gpus: number,
    there: readonly Candidate[],
  ): { readonly jobs: readonly number[]; readonly lossGpuMs: number } | undefined {
    let missing = gpus - this.freeOf[node]!;
    if (this.free - this.freeOf[node]! < missing) return undefined;
    const free = this.freeOf.slice();
    // The node that is being emptied takes the job itself.
    free[node] = 0;
    const jobs: number[] = [];
    let lossGpuMs = 0;
    for (const candidate of there.toSorted((a, b) => b.gpusMilli - a.gpusMilli || byLoss(a, b))) {
      if (missing <= 0) break;
      const width = candidate.gpusMilli / 1000;
      const target = bestFit(free, width);
      if (target < 0) continue;
      free[target]! -= width;
      missing -= width;
      jobs.push(candidate.slot);
      lossGpuMs += candidate.lossGpuMs;
    }
    return missing > 0 ? undefined : { jobs, lossGpuMs };
  }

  /** The node where freeing so many GPUs loses least; victims chosen already are free of charge. */
  private cheapestNode(
    need: number,
    onNode: ReadonlyMap<number, readonly Candidate[]>,
    used: ReadonlySet<number>,
    chosen: ReadonlySet<number>,
  ): { readonly node: number; readonly victims: readonly number[] } | undefined {
    let best: { node: number; victims: readonly number[] } | undefined;
    let bestLoss = Number.POSITIVE_INFINITY;
    for (let node = 0; node < this.freeOf.length; node++) {
      if (used.has(node)) continue;
      let missing = need - this.freeOf[node]!;
      let loss = 0;
      const victims: number[] = [];
      const list = onNode.get(node) ?? [];
      for (const candidate of list.length > 1 ? list.toSorted(byLoss) : list) {
        const here = this.held.get(candidate.slot)!.find(([at]) => at === node)![1];
        if (chosen.has(candidate.slot)) {
          missing -= here;
          continue;
        }
        if (missing <= 0) break;
        missing -= here;
        victims.push(candidate.slot);
        loss += candidate.lossGpuMs;
        if (loss >= bestLoss) break;
      }
      if (missing <= 0 && loss < bestLoss) {
        best = { node, victims };
        bestLoss = loss;
      }
    }
    return best;
  }

  private find(gpus: number): Holding | undefined {
    if (gpus > this.free) return undefined;
    const whole = Math.floor(gpus / this.size);
    const rest = gpus % this.size;
    const holding: [number, number][] = [];
    for (let node = 0; node < this.freeOf.length && holding.length < whole; node++) {
      if (this.freeOf[node] === this.size) holding.push([node, this.size]);
    }
    if (holding.length < whole) return undefined;
    if (rest === 0) return holding;
    const free = this.freeOf.slice();
    for (const [node] of holding) free[node] = 0;
    const best = bestFit(free, rest);
    return best < 0 ? undefined : [...holding, [best, rest]];
  }

  private take(job: number, holding: Holding): void {
    for (const [node, gpus] of holding) this.freeOf[node]! -= gpus;
    this.free -= this.gpusOf(job);
    this.held.set(job, holding);
    this.former.delete(job);
  }
}

/** The node with the fewest free GPUs that are enough, the first of those; -1: none. */
function bestFit(freeOf: readonly number[], gpus: number): number {
  let best = -1;
  for (let node = 0; node < freeOf.length; node++) {
    const free = freeOf[node]!;
    if (free < gpus || (best >= 0 && free >= freeOf[best]!)) continue;
    best = node;
    if (free === gpus) break;
  }
  return best;
}
