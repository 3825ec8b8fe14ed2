import type { AttemptId, GpuId } from "@fastgpu/domain/ids";
import { skuOf } from "@fastgpu/ledger/sku";
import { gpusOfPlacement, type Placement } from "@fastgpu/scheduling/plan";
import type { StoredAttempt } from "../store/attempts.ts";
import type { LeasedMember } from "../store/leases.ts";
import type { StoredGpu } from "../store/nodes.ts";

/** Durations that decide how much money is set aside, in milliseconds. */
export interface FundingTimes {
  readonly leaseTtlMs: number;
  readonly skewMs: number;
  /** The worker stops an attempt this long before its lease ends. */
  readonly marginMs: number;
  /** Billable time that a hold covers beyond what the end needs. */
  readonly coverMs: number;
}

/** A hold to ask for. */
export interface HoldRequest {
  readonly attempt: AttemptId;
  readonly placement: Placement;
  readonly items: readonly { readonly sku: string; readonly quantity: number }[];
  readonly coverMs: number;
  readonly minCoverMs: number;
  /** The most that all attempts of the task may cost together, in nano-USD. */
  readonly maxCostNanos: bigint | undefined;
}

/** What is left of a max_cost, and the least that a lease needs, in nano-USD. */
export interface MaxCostLeft {
  readonly neededNanos: bigint;
  readonly leftNanos: bigint;
}

/** An answer to it. */
export type HoldAnswer =
  | {
      readonly kind: "open";
      readonly fundedMs: number;
      readonly priceVersions: ReadonlyMap<string, number>;
    }
  | {
      readonly kind: "refused";
      readonly message: string;
      /** What the task may cost leaves too little, and nothing of it will come back. */
      readonly spent?: MaxCostLeft;
    }
  | { readonly kind: "closed" };

/** Why a task waits whose organisation cannot pay. */
export const accountTooShort =
  "the organisation's account cannot cover the hold; add credit or wait for running work to end";

/** Time that every hold covers after the last moment at which the task may be told to stop. */
export function endingMs(stopGraceMs: number, times: FundingTimes): number {
  return stopGraceMs + times.skewMs + times.marginMs;
}

/** The hold that a placement needs; undefined where it has no GPU and costs nothing. */
export function holdRequest(
  of: { attempt: AttemptId; placement: Placement; maxCostNanos?: bigint | undefined },
  gpus: ReadonlyMap<GpuId, StoredGpu>,
  times: FundingTimes,
): HoldRequest | undefined {
  const { attempt, placement } = of;
  const ids = gpusOfPlacement(placement);
  if (ids.length === 0) return undefined;
  const counts = new Map<string, number>();
  for (const id of ids) {
    const gpu = gpus.get(id);
    if (gpu === undefined) continue;
    const sku = skuOf(gpu);
    counts.set(sku, (counts.get(sku) ?? 0) + 1);
  }
  const ending = endingMs(placement.task.stopGraceMs, times);
  return {
    attempt,
    placement,
    items: [...counts].map(([sku, quantity]) => ({ sku, quantity })),
    coverMs: ending + times.coverMs,
    minCoverMs: ending + times.leaseTtlMs,
    maxCostNanos: of.maxCostNanos,
  };
}

/** The members of a placement by rank, their GPUs with what they cost. */
export function pricedMembers(
  placement: Placement,
  gpus: ReadonlyMap<GpuId, StoredGpu>,
  priceVersions: ReadonlyMap<string, number>,
): LeasedMember[] {
  const priced = (id: GpuId): LeasedMember["gpus"] => {
    const gpu = gpus.get(id);
    if (gpu === undefined) return [];
    const sku = skuOf(gpu);
    return [{ id, sku, priceVersion: priceVersions.get(sku) ?? 0, simulated: gpu.simulated }];
  };
  return placement.members.map(({ node, gpus: own }) => ({ node, gpus: own.flatMap(priced) }));
}

/**
 * Until when an attempt, or a gang's member, is paid for, in server time; undefined where it costs nothing, or stops
 * anyway. Billing
 * starts when it runs; the hold covers as much time of every member, so that none of them needs another's.
 */
function fundedUntilMs(attempt: StoredAttempt): number | undefined {
  const over = attempt.goneMs !== undefined || attempt.stopClass !== undefined;
  if (attempt.fundedMs === undefined || over) return undefined;
  return (attempt.runningMs ?? attempt.leaseMs) + attempt.fundedMs;
}

/** Whether an attempt's hold should be extended now. */
export function needsExtension(
  attempt: StoredAttempt,
  at: { nowMs: number; times: FundingTimes },
): boolean {
  const until = fundedUntilMs(attempt);
  if (until === undefined) return false;
  const { leaseTtlMs, marginMs } = at.times;
  return until - at.nowMs < leaseTtlMs + attempt.stopGraceMs + marginMs + 30_000;
}

/** Whether an attempt must be told to stop now, so that it ends within its money. */
export function mustStopForBudget(
  attempt: StoredAttempt,
  at: { nowMs: number; times: FundingTimes },
): boolean {
  const until = fundedUntilMs(attempt);
  if (until === undefined) return false;
  return at.nowMs >= until - endingMs(attempt.stopGraceMs, at.times) - 1_000;
}
