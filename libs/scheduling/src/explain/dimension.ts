import type { PlanTask } from "../plan.ts";

/** A field of a task that a remedy changes. */
export type RemedyField =
  | "gpuModels"
  | "gpuCount"
  | "replicas"
  | "topology"
  | "gpuMinMemoryMib"
  /** A smaller share, a smaller MIG instance, or a share in place of a whole GPU. */
  | "gpuPart"
  /** A weaker grade for a share, or a share in place of a MIG instance. */
  | "isolation"
  | "simulatedOk"
  | "cpuMillis"
  | "memoryMib"
  | "diskMib"
  | "priority"
  | "maxRuntimeMs"
  /** To be stopped for others: with it GPUs that are reserved are lent. */
  | "preemptible";

/** Makes another task of a task. */
export type Change = (task: PlanTask) => PlanTask;

/** One way to ask for less: from the smallest change to the greatest; where one works, all later ones do. */
export interface Dimension {
  readonly field: RemedyField;
  readonly steps: readonly Change[];
}

/** Of CPU, memory, disk and a share a remedy leaves at least this part: with less the task is another one. */
export const leastPart = 0.25;
