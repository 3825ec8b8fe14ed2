import { checkOrderPolicy, defaultOrderPolicy, type OrderPolicy } from "./order/policy.ts";
import { policies, type PolicyName } from "./placement/engine.ts";

/** Everything that an operator may set of how the cluster is planned. */
export interface SchedulingPolicy {
  /** Where tasks go. */
  readonly placement: PolicyName;
  /** Who goes next. */
  readonly order: OrderPolicy;
  /** Whether running tasks that can go on from a checkpoint are stopped for others. */
  readonly preemption: { readonly enabled: boolean };
  /** Whether the start of a task that finds no room is reserved, and only what does not delay it goes before. */
  readonly backfill: {
    readonly enabled: boolean;
    /** Whether run times are expected from the like that has ended, instead of taken for as long as they may be. */
    readonly predict: boolean;
    /** A start that is certain within so many milliseconds is promised: only what ends by then for sure goes before. */
    readonly promiseWithinMs: number;
    /** After queueing for so long a task at the head is promised its start however far ahead, in milliseconds. */
    readonly promiseAfterMs: number;
  };
  /** Whether running tasks that can go on from a checkpoint are moved together to make room for the next in line. */
  readonly compaction: {
    readonly enabled: boolean;
    /** Those who move for a task lose at most so much work with it all, for each GPU that the task gets, in milliseconds. */
    readonly maxLossMs: number;
  };
  /** How past service counts in the shares. */
  readonly usage: {
    /** Service of so long ago counts half, in milliseconds. */
    readonly halfLifeMs: number;
    /** Weight of its term, in millidoublings per doubling of had over fair; 0: only the present counts. */
    readonly weightMd: number;
  };
  /** Whether moves that free whole nodes are proposed, and how many at most in one plan. */
  readonly consolidation: { readonly enabled: boolean; readonly maxMoves: number };
}

/** The shipped policy. Measured in docs/decisions/queue-order.md and placement.md; the rest in planning.md. */
export const defaultSchedulingPolicy: SchedulingPolicy = {
  placement: "default",
  order: {
    ...defaultOrderPolicy,
    // Within a doubling of its share a queue trades with the others by what its tasks have had, those that cannot be
    // stopped for a twentieth; further off the share decides, and nobody gets a fleet by a flood of fresh ones.
    unstoppableMilli: 50,
    shareKneeMd: 1_000,
    shareSteepMd: 10_000,
    shareClampMd: 20_000,
    shareSlackGpus: 1,
    // Priority counts within a project only.
    priorityMd: 0,
    agedAfterMs: 72 * 3_600_000,
    allowancePerMs: 4 * 3_600_000,
    // A kind of task without room says nothing about other models, or about tasks without GPUs.
    blockedGroups: 1e9,
  },
  preemption: { enabled: true },
  backfill: {
    enabled: true,
    predict: true,
    promiseWithinMs: 3_600_000,
    promiseAfterMs: 24 * 3_600_000,
  },
  compaction: { enabled: true, maxLossMs: 600_000 },
  usage: { halfLifeMs: 24 * 3_600_000, weightMd: 500 },
  consolidation: { enabled: false, maxMoves: 16 },
};

/** Ranges in which a number makes sense: [least, greatest]. */
const ranges = [
  [
    "backfill.promiseWithinMs",
    ({ backfill }: SchedulingPolicy) => backfill.promiseWithinMs,
    0,
    1e12,
  ],
  ["backfill.promiseAfterMs", ({ backfill }: SchedulingPolicy) => backfill.promiseAfterMs, 0, 1e12],
  ["compaction.maxLossMs", ({ compaction }: SchedulingPolicy) => compaction.maxLossMs, 0, 1e12],
  ["usage.halfLifeMs", ({ usage }: SchedulingPolicy) => usage.halfLifeMs, 60_000, 1e12],
  ["usage.weightMd", ({ usage }: SchedulingPolicy) => usage.weightMd, 0, 10_000],
  [
    "consolidation.maxMoves",
    ({ consolidation }: SchedulingPolicy) => consolidation.maxMoves,
    1,
    10_000,
  ],
] as const;

/** The first field that is out of its range, or undefined. What a policy file is checked with. */
export function checkSchedulingPolicy(
  policy: SchedulingPolicy,
): { readonly field: string; readonly problem: string } | undefined {
  if (!Object.hasOwn(policies, policy.placement)) {
    const known = Object.keys(policies).join(", ");
    return { field: "placement", problem: `"${policy.placement}" is none of ${known}` };
  }
  const order = checkOrderPolicy(policy.order);
  if (order !== undefined) return { ...order, field: `order.${order.field}` };
  for (const [field, read, least, greatest] of ranges) {
    const value = read(policy);
    if (!(value >= least && value <= greatest)) {
      return { field, problem: `${value} is not in [${least}, ${greatest}]` };
    }
  }
  return undefined;
}
