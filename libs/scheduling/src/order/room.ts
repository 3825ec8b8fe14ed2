import type { Slot } from "./jobs.ts";

/** A running job that may be stopped for the job at hand. */
export interface Candidate {
  readonly slot: Slot;
  readonly gpusMilli: number;
  /** GPU-milliseconds that stopping it wastes. */
  readonly lossGpuMs: number;
  /** Highest goes first where the losses are alike: its score, less what freeing too many GPUs costs. */
  readonly scoreMd: number;
}

/**
 * The pool as a draft: the walk places, takes back and restores on it, and what remains at the end is the plan. The
 * service gives one over its placement engine, the simulator one over its fleet.
 */
export interface Room {
  readonly capacityMilli: number;
  /** Milli-GPUs free in all, a bound on what fits; Infinity where the pool has no such bound. */
  freeMilli(): number;
  /** Places the whole gang, or nothing and answers false. */
  place(slot: Slot): boolean;
  /** Frees what a job holds. */
  release(slot: Slot): void;
  /** Puts a released job back exactly where it ran; false where that place is taken now. */
  restore(slot: Slot): boolean;
  /** False where `victims` would find none for a job whoever may be stopped: nobody is looked for then. */
  seeksVictims?(slot: Slot): boolean;
  /**
   * A set of candidates whose release would let the job in, least loss first as far as the pool's shape allows, or
   * undefined. The caller checks it by trial and drops who is not needed. Candidates are theirs for this call alone.
   */
  victims(slot: Slot, candidates: readonly Candidate[]): readonly Slot[] | undefined;
  /**
   * Places the job where nothing is free for it as it is, by moving running jobs into what is free elsewhere, least loss
   * first; answers who has moved, or undefined where that does not work out, and nothing has changed. Only a pool whose
   * free GPUs can lie in the wrong places has it. `movable` is asked for only where there might be something to move.
   */
  compact?(slot: Slot, movable: () => readonly Candidate[]): readonly Slot[] | undefined;
}

/** Losses within this much of each other, in milliseconds per GPU, count as equal. */
const lossStepMs = 60_000;

/**
 * Least lost work per GPU freed first (in whole minutes), then who has had the most service (highest score), then the
 * lower slot. To free a given number of GPUs, least loss per GPU is the greedy rule of the knapsack problem.
 */
export function byLoss(a: Candidate, b: Candidate): number {
  return lossSteps(a) - lossSteps(b) || b.scoreMd - a.scoreMd || a.slot - b.slot;
}

const lossSteps = (candidate: Candidate): number =>
  Math.floor((candidate.lossGpuMs * 1000) / candidate.gpusMilli / lossStepMs);

/**
 * Victims in a pool where any GPU is as good as another: in the order of {@link byLoss} until the need is met; then
 * whoever the rest makes needless is dropped. Undefined where all of them are not enough.
 */
export function flatVictims(
  needMilli: number,
  candidates: readonly Candidate[],
): readonly Slot[] | undefined {
  let all = 0;
  for (const candidate of candidates) all += candidate.gpusMilli;
  if (all < needMilli) return undefined;
  const chosen: Candidate[] = [];
  let got = 0;
  for (const candidate of candidates.toSorted(byLoss)) {
    if (got >= needMilli) break;
    chosen.push(candidate);
    got += candidate.gpusMilli;
  }
  const kept: Slot[] = [];
  for (const candidate of chosen) {
    if (got - candidate.gpusMilli >= needMilli) got -= candidate.gpusMilli;
    else kept.push(candidate.slot);
  }
  return kept;
}
