import type { OrderPolicy } from "./policy.ts";

/**
 * The size of a task: 1000 × log2(max(attained GPU-seconds, least)), an integer. Least attained service first
 * (Nuyens and Wierman, "The foreground–background queue", 2008; with GPUs × time as in Tiresias, NSDI '19): run
 * times are heavy-tailed, so that what has run least is likely to end soonest, and nobody has to predict anything.
 * Counting in doublings bounds the rate: a task is passed over only by what has had a fraction of its service.
 *
 * With a rank from history (run time in milliseconds, history.ts) the size follows rank × GPUs instead, as far as
 * `historyBoundMd` lets it: wrong history costs at most so much. A wide gang gets its bonus.
 */
export function sizeMd(
  policy: OrderPolicy,
  task: {
    readonly attainedGpuMs: number;
    readonly gpus: number;
    readonly rankMs: number | undefined;
  },
): number {
  const { attainedGpuMs, gpus, rankMs } = task;
  const doublings = (gpuMs: number): number =>
    1000 * Math.log2(Math.max(gpuMs / 1000, policy.minServiceGpuSeconds));
  let size = doublings(attainedGpuMs);
  if (rankMs !== undefined) {
    const bend = doublings(rankMs * gpus) - size;
    size += Math.min(policy.historyBoundMd, Math.max(-policy.historyBoundMd, bend));
  }
  return Math.round(gpus >= policy.wideGpus ? size - policy.wideBonusMd : size);
}

/**
 * The share term of one queue: weight × log2((allocated + slack) / (fair + slack)) in millidoublings, bounded. Over
 * its share a queue's tasks look larger, under it smaller: fairness and order trade in the same unit.
 */
export function shareMd(policy: OrderPolicy, allocatedMilli: number, fairMilli: number): number {
  const slack = policy.shareSlackGpus * 1000;
  const over = 1000 * Math.log2((allocatedMilli + slack) / (fairMilli + slack));
  const bounded = Math.min(policy.shareClampMd, Math.max(-policy.shareClampMd, over));
  return Math.round((policy.shareWeightMd * bounded) / 1000);
}

/** How many preemptions a task must bear by now: the allowance grows with the run time it has attained. */
export function allowance(policy: OrderPolicy, attainedRunMs: number): number {
  return policy.allowanceBase + attainedRunMs / policy.allowancePerMs;
}

/**
 * What a victim's score loses by freeing more GPUs than are needed, in millidoublings: rather a narrow job than a gang
 * goes for a narrow one, though the gang has had more.
 */
export function excessMd(policy: OrderPolicy, excessMilli: number): number {
  return excessMilli <= 0 ? 0 : policy.excessMd * Math.log2(1 + excessMilli / 1000);
}
