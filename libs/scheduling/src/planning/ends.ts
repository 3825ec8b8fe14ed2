import { maxElementsPerLease, type PlanTask } from "../plan.ts";

/** When a task ends at the latest if it starts now, of an array its largest lease; Infinity: not known. */
export function endIfStarted({ array, maxRuntimeMs, stopGraceMs }: PlanTask, now: number): number {
  const elements = Math.min(array?.pending ?? 1, maxElementsPerLease);
  return now + maxRuntimeMs * elements + stopGraceMs;
}
