import type { OrderPolicy } from "./policy.ts";

/**
 * The size of a task: 1000 × log2(max(attained GPU-seconds, least)), an integer. Least attained service first
 * (Nuyens and Wierman, "The foreground–background queue", 2008; with GPUs × time as in Tiresias, NSDI '19): run
 * times are heavy-tailed, so that what has run least is likely to end soonest, and nobody has to predict anything.
 * Counting in doublings bounds the rate: a task is passed over only by what has had a fraction of its service.
 *
 * With a rank from history (run time in milliseconds, history.ts) the size follows rank × GPUs instead, as far as
 * `historyBoundMd` lets it: wrong history costs at most so much. Wide gangs and single GPUs get their bonus.
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
  return Math.round(size - bonusMd(policy, gpus));
}

/** The size of a task that cannot be stopped: its service counts as far as the policy lets it. */
export function unstoppableMd(
  policy: OrderPolicy,
  task: { readonly attainedGpuMs: number; readonly gpus: number },
): number {
  const size = sizeMd(policy, { ...task, rankMs: undefined });
  if (policy.unstoppableMilli === 1000) return size;
  const least = 1000 * Math.log2(policy.minServiceGpuSeconds);
  // Without a bonus: who cannot be parked again must not pass the wider ones for being narrow.
  const service = size + bonusMd(policy, task.gpus) - least;
  return Math.round(least + (service * policy.unstoppableMilli) / 1000);
}

function bonusMd(policy: OrderPolicy, gpus: number): number {
  const { wideGpus } = policy;
  if (gpus >= wideGpus)
    return policy.wideBonusMd + policy.widerBonusMd * Math.log2(gpus / wideGpus);
  return gpus <= 1 ? policy.narrowBonusMd : 0;
}

/**
 * The size of a task as its waiting bends it. Where there is more work than GPUs somebody must hold the rest: late
 * tasks do, for whom a soft deadline is past anyway, so that those who can still meet it go before them. A single GPU
 * holds too little for that. Who is due goes as if it had had no service.
 */
export function waitedMd(
  policy: OrderPolicy,
  task: {
    readonly sizeMd: number;
    readonly gpus: number;
    readonly sinceSubmitMs: number;
    readonly queuedMs: number;
  },
): number {
  const { gpus } = task;
  if (task.queuedMs >= policy.dueAfterMs) {
    const fresh = sizeMd(policy, { attainedGpuMs: 0, gpus, rankMs: undefined });
    return Math.min(task.sizeMd, fresh);
  }
  if (task.sinceSubmitMs < policy.lateAfterMs || gpus <= 1) return task.sizeMd;
  return task.sizeMd + (gpus >= policy.wideGpus ? policy.lateWideMd : policy.lateMd);
}

/**
 * The share term of one queue: weight × log2((allocated + slack) / (fair + slack)) in millidoublings, bounded. Over
 * its share a queue's tasks look larger, under it smaller: fairness and order trade in the same unit. Beyond the knee
 * the term is steep: near its share a queue trades with the others by what their tasks have had, and far from it the
 * share decides.
 */
export function shareMd(policy: OrderPolicy, allocatedMilli: number, fairMilli: number): number {
  const slack = policy.shareSlackGpus * 1000;
  const over = 1000 * Math.log2((allocatedMilli + slack) / (fairMilli + slack));
  return bentMd(policy, over, policy.shareWeightMd);
}

/** What so many millidoublings over (or under) what is due count for, at a weight for each doubling. */
export function bentMd(policy: OrderPolicy, overMd: number, weightMd: number): number {
  const { shareClampMd, shareKneeMd, shareSteepMd } = policy;
  const bounded = Math.min(shareClampMd, Math.max(-shareClampMd, overMd));
  const beyond = Math.sign(bounded) * Math.max(0, Math.abs(bounded) - shareKneeMd);
  return Math.round((weightMd * bounded + shareSteepMd * beyond) / 1000);
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
