import type { PlanTask } from "../plan.ts";
import type { Trials } from "./trials.ts";

/** How far a gang fits. */
export interface GangFit {
  readonly members: number;
  /** Members that would find a place now, wherever they lie to one another. */
  readonly fitting: number;
  /** Most members with which it would start now as asked, topology included; 0: not even one. */
  readonly largestNow: number;
}

/** Counts the members that find a place, with and without the wishes for where they lie. */
export function gangFitOf(task: PlanTask, trials: Trials): GangFit {
  const fits = trials.placer(trials.nodes);
  const starts = (members: number): boolean =>
    fits({ ...task, replicas: members }) &&
    trials.startsBy({ ...task, replicas: members }) !== undefined;
  return {
    members: task.replicas,
    fitting: greatest(task.replicas, (replicas) => fits({ ...task, replicas, topology: {} })),
    largestNow: greatest(task.replicas, starts),
  };
}

/** The greatest count up to a bound that works; where one works, fewer do. */
function greatest(bound: number, works: (count: number) => boolean): number {
  let low = 0;
  let high = bound;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (works(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
