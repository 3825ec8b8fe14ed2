/**
 * Parameters of the queue order. Sizes and scores are integers in **millidoublings**: 1000 × log2 of a service in
 * GPU-seconds, so that 1000 more means twice the service. A lower score goes first.
 */
export interface OrderPolicy {
  /** Service below this is all alike, in GPU-seconds: short tasks never preempt each other. */
  readonly minServiceGpuSeconds: number;
  /** A gang of at least this many GPUs is wide. */
  readonly wideGpus: number;
  /** Taken off the score of a wide gang, in millidoublings: what it loses by waiting for many GPUs at once … */
  readonly wideBonusMd: number;
  /** … and so much more for each doubling of its GPUs beyond that. */
  readonly widerBonusMd: number;
  /** Taken off the score of a task of at most one GPU, in millidoublings: parking it holds next to nothing back. */
  readonly narrowBonusMd: number;
  /** How far the history of run times may bend the size of a task from its attained service, in millidoublings; 0: not at all. */
  readonly historyBoundMd: number;
  /**
   * What the size of a task that cannot be stopped counts for beyond the least one, in thousandths: it holds its GPUs for
   * as long as it likes, so that having had little says less for it than the share of its queue.
   */
  readonly unstoppableMilli: number;
  /** Before there is history, run times are taken for Pareto with this tail index: the higher, the sooner they end. */
  readonly priorTail: number;
  /** Past tasks that the prior counts for beside the fleet's history, and the fleet's beside a queue's. */
  readonly priorTasks: number;
  /** Past tasks that a queue's history counts for beside a task's neighbours (of its queue, started about then). */
  readonly tableTasks: number;
  /** A neighbour counts e times less for each so many tasks that started between. */
  readonly neighbourLag: number;
  /** What a neighbour of the next width class counts, in thousandths of one of the same. */
  readonly neighbourWidthMilli: number;
  /** Weight of the share term, in millidoublings per doubling of allocated over fair. */
  readonly shareWeightMd: number;
  /** Added to both sides of allocated : fair, in GPUs, so that a small queue is not ruled by rounding. */
  readonly shareSlackGpus: number;
  /** Beyond so many millidoublings over or under the fair share … */
  readonly shareKneeMd: number;
  /** … each doubling weighs so much more, in millidoublings. */
  readonly shareSteepMd: number;
  /** Bound on |log2(allocated : fair)|, in millidoublings. */
  readonly shareClampMd: number;
  /** One priority class is worth so much, in millidoublings. */
  readonly priorityMd: number;
  /** Preempt only across at least this gap, in millidoublings. */
  readonly gapMd: number;
  /** A victim's score falls by so much per doubling of (1 + GPUs that its stop frees beyond the need), in millidoublings. */
  readonly excessMd: number;
  /** A victim has run at least this long since it was last restored, in milliseconds. */
  readonly minRunMs: number;
  /** Preemptions that every task must bear … */
  readonly allowanceBase: number;
  /** … and one more for each such piece of attained run time, in milliseconds. */
  readonly allowancePerMs: number;
  /** Run time that one preemption costs its victim on restore, in milliseconds. */
  readonly restoreChargeMs: number;
  /** A task is late so long after its submit, in milliseconds. */
  readonly lateAfterMs: number;
  /** What a late task of more than one GPU has added to its score, in millidoublings … */
  readonly lateMd: number;
  /** … and what it has if it is wide. */
  readonly lateWideMd: number;
  /** From so much queueing on a task goes as if it had had no service, in milliseconds. */
  readonly dueAfterMs: number;
  /** Queueing time after which a task may use the aged lane, in milliseconds. */
  readonly agedAfterMs: number;
  /** Part of the capacity that the aged lane may hold, in thousandths. */
  readonly agedShareMilli: number;
  /** The walk ends after this many groups (queue × shape) that found no room. */
  readonly blockedGroups: number;
}

/** The shipped parameters. Measured in docs/decisions/queue-order.md. */
export const defaultOrderPolicy: OrderPolicy = {
  minServiceGpuSeconds: 1_800,
  wideGpus: 8,
  wideBonusMd: 1_800,
  widerBonusMd: 300,
  narrowBonusMd: 500,
  historyBoundMd: 3_000,
  unstoppableMilli: 1_000,
  priorTail: 4,
  priorTasks: 10,
  tableTasks: 0.4,
  neighbourLag: 6,
  neighbourWidthMilli: 150,
  shareWeightMd: 500,
  shareSlackGpus: 4,
  shareKneeMd: 0,
  shareSteepMd: 0,
  shareClampMd: 4000,
  priorityMd: 2000,
  gapMd: 1000,
  excessMd: 500,
  minRunMs: 600_000,
  allowanceBase: 3,
  allowancePerMs: 3_600_000,
  restoreChargeMs: 120_000,
  lateAfterMs: 75 * 3_600_000,
  lateMd: 600,
  lateWideMd: 240,
  dueAfterMs: 1_090 * 3_600_000,
  agedAfterMs: 1_000 * 3_600_000,
  agedShareMilli: 20,
  blockedGroups: 3,
};

/** A time that never comes, in milliseconds: the greatest that a policy takes. */
export const neverMs = 1e12;

/** The order without the parameters that came last: what a policy meant that was written down before they were. */
export const untimedOrder = {
  widerBonusMd: 0,
  narrowBonusMd: 0,
  shareKneeMd: 0,
  shareSteepMd: 0,
  unstoppableMilli: 1_000,
  lateAfterMs: neverMs,
  lateMd: 0,
  lateWideMd: 0,
  dueAfterMs: neverMs,
} as const satisfies Partial<OrderPolicy>;

/** Ranges in which a parameter makes sense: [least, greatest]. */
const ranges: Readonly<Record<keyof OrderPolicy, readonly [number, number]>> = {
  minServiceGpuSeconds: [1, 1e9],
  wideGpus: [1, 1e6],
  wideBonusMd: [0, 20_000],
  widerBonusMd: [0, 20_000],
  narrowBonusMd: [0, 20_000],
  historyBoundMd: [0, 100_000],
  unstoppableMilli: [0, 1_000],
  priorTail: [0.01, 100],
  priorTasks: [0.01, 1e6],
  tableTasks: [0.01, 1e6],
  neighbourLag: [0.1, 1_000],
  neighbourWidthMilli: [0, 1_000],
  shareWeightMd: [0, 10_000],
  shareSlackGpus: [0.001, 1e6],
  shareKneeMd: [0, 20_000],
  shareSteepMd: [0, 20_000],
  shareClampMd: [0, 20_000],
  priorityMd: [0, 20_000],
  gapMd: [1, 20_000],
  excessMd: [0, 20_000],
  minRunMs: [1_000, 1e10],
  allowanceBase: [0, 1e6],
  allowancePerMs: [1_000, 1e12],
  restoreChargeMs: [0, 1e9],
  lateAfterMs: [1_000, neverMs],
  lateMd: [0, 20_000],
  lateWideMd: [0, 20_000],
  dueAfterMs: [1_000, neverMs],
  agedAfterMs: [1_000, neverMs],
  agedShareMilli: [0, 1_000],
  blockedGroups: [1, 1e9],
};

/** The first parameter that is out of its range, or undefined. What a policy file is checked with. */
export function checkOrderPolicy(
  policy: OrderPolicy,
): { readonly field: keyof OrderPolicy; readonly problem: string } | undefined {
  for (const field of Object.keys(ranges) as (keyof OrderPolicy)[]) {
    const [least, greatest] = ranges[field];
    const value = policy[field];
    if (!(value >= least && value <= greatest)) {
      return { field, problem: `${value} is not in [${least}, ${greatest}]` };
    }
  }
  return undefined;
}
