import type { Fitter } from "./checks.ts";
import type { Cluster } from "./cluster.ts";
import type { Mix } from "./mix.ts";
import type { Shape } from "./shapes.ts";

/** What a policy may look at. */
export interface PolicyContext {
  readonly cluster: Cluster;
  readonly fitter: Fitter;
  /** The workload's classes as seen in arrivals so far. */
  readonly mix: Mix;
}

/**
 * A placement policy: among the states where a shape fits, the highest score wins, and
 * among equal scores the node with the lowest id. A score is a pure function of
 * (state, shape, epoch).
 */
export interface Policy {
  readonly name: string;
  /** True where any feasible node is as good: one is drawn by the random source. */
  readonly anyNode: boolean;
  /** Rises when scores change for another reason than a changed state. */
  readonly epoch: number;
  /** Called before each decision: the moment to take in a changed mix or supply. */
  refresh(): void;
  /**
   * True where `bound` and `tighten` look at nothing but what a family of shapes has in common:
   * its demand for GPUs and `Shape.family`. They must then hold for states where only that fits.
   */
  readonly sharesBounds: boolean;
  /** An upper bound of `score`, for a state where the shape fits; cheap beside it. */
  bound(slot: number, shape: Shape): number;
  /**
   * A bound between `bound` and `score`, in cost and in value; absent where there is none. For a
   * shape that asks for no more than `Shape.family` it is the score.
   */
  tighten?(slot: number, shape: Shape): number;
  /** The exact score, for a state where the shape fits. */
  score(slot: number, shape: Shape): number;
  /** Writes the GPUs to use (canonical positions) into `positions`. */
  choose(slot: number, shape: Shape, positions: number[]): void;
}

/** Makes a policy for one cluster. */
export type PolicyFactory = (context: PolicyContext) => Policy;
