import type { ExitClass } from "./states.ts";

/** A task's retry policy. Counts are whole numbers of attempts after the first. */
export interface RetryPolicy {
  /** Retries for classes that are the task's own doing. */
  maxRetries: number;
  /** Classes that `maxRetries` covers. */
  retryOn: readonly ExitClass[];
}

/** Attempts of one task that have ended, by what they cost. */
export interface RetryCounts {
  /** Retries already spent against `maxRetries`. */
  retries: number;
  /** Ends that cost no retry but could be the task's doing (node_lost). Preemptions are counted apart. */
  freeRequeues: number;
}

export type RetryDecision =
  | { kind: "succeed" }
  | { kind: "cancel" }
  | { kind: "fail" }
  | { kind: "requeue"; costsRetry: boolean; excludeGpu: boolean; delayMs: number };

/** Requeues without cost end here: a task that takes down every node it meets must stop. */
export const maxFreeRequeues = 100;

/** Classes retried where a policy names none. */
export const defaultRetryOn: readonly ExitClass[] = [
  "oom_gpu",
  "image",
  "start_failed",
  "output_failed",
  "gpu_fault",
];

/**
 * What follows from an attempt's end: a pure function of its class, the counts so far and the policy.
 * `preempted` and `node_lost` cost no retry; `gpu_fault` excludes the GPU it happened on.
 * Delays grow exponentially from 1 s to 60 s.
 */
export function decideRetry(
  exitClass: ExitClass,
  counts: RetryCounts,
  policy: RetryPolicy,
): RetryDecision {
  switch (exitClass) {
    case "ok":
      return { kind: "succeed" };
    case "cancelled":
      return { kind: "cancel" };
    case "preempted":
      // The platform's own doing: its planner bounds how often, and the task is not to blame.
      return { kind: "requeue", costsRetry: false, excludeGpu: false, delayMs: 0 };
    case "node_lost":
    case "gang_stopped":
      if (counts.freeRequeues >= maxFreeRequeues) return { kind: "fail" };
      return { kind: "requeue", costsRetry: false, excludeGpu: false, delayMs: 0 };
    case "deadline":
    case "dependency":
    case "budget":
      return { kind: "fail" };
    case "user_exit":
    case "oom_host":
    case "oom_gpu":
    case "timeout":
    case "rejected":
    case "image":
    case "gpu_fault":
    case "start_failed":
    case "output_failed": {
      if (!policy.retryOn.includes(exitClass) || counts.retries >= policy.maxRetries)
        return { kind: "fail" };
      const delayMs = Math.min(60_000, 1_000 * 2 ** Math.min(counts.retries, 6));
      return { kind: "requeue", costsRetry: true, excludeGpu: exitClass === "gpu_fault", delayMs };
    }
  }
}
