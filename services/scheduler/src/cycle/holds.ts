import {
  HoldStatus,
  type HoldOutcome,
  type MaxCostShortfall,
  type HoldService,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { Client } from "@fastgpu/rpc/client";
import type { Holds } from "./context.ts";
import { accountTooShort, type HoldAnswer } from "./money.ts";

/** Billing must answer within a cycle's patience; what it does not hold is simply not placed. */
const options = { timeoutMs: 5_000, retry: true } as const;
const batchSize = 1_000;

/** The cycle's holds, kept by billing. */
export function holdsOf(billing: Client<typeof HoldService>): Holds {
  return {
    async create(leaderEpoch, requests) {
      const answers: HoldAnswer[] = [];
      for (const batch of batches(requests)) {
        const holds = batch.map(({ attempt, placement, items, coverMs, minCoverMs, ...more }) => ({
          attempt,
          maxCostNanos: more.maxCostNanos ?? 0n,
          task: placement.task.id,
          org: placement.task.org,
          project: placement.task.project,
          items: [...items],
          coverMs: BigInt(coverMs),
          minCoverMs: BigInt(minCoverMs),
        }));
        const answer = await billing.batchCreateHolds({ leaderEpoch, holds }, options);
        answers.push(...answer.outcomes.map(toAnswer));
      }
      return answers;
    },
    async extend(leaderEpoch, items) {
      const answers: HoldAnswer[] = [];
      for (const batch of batches(items)) {
        const holds = batch.map(({ attempt, n, coverMs }) => ({
          attempt,
          n,
          coverMs: BigInt(coverMs),
        }));
        const answer = await billing.batchExtendHolds({ leaderEpoch, holds }, options);
        answers.push(...answer.outcomes.map(toAnswer));
      }
      return answers;
    },
    async void(leaderEpoch, attempts) {
      for (const batch of batches(attempts)) {
        await billing.batchVoidHolds({ leaderEpoch, attempts: batch }, options);
      }
    },
    async listOlder(leaderEpoch, after) {
      const request = { beforeLeaderEpoch: leaderEpoch, afterAttempt: after };
      return (await billing.listOpenHolds(request, options)).attempts;
    },
  };
}

function* batches<T>(items: readonly T[]): Generator<T[]> {
  for (let at = 0; at < items.length; at += batchSize) yield items.slice(at, at + batchSize);
}

/** Where part of it may come back it waits for that. */
function maxCostReached(shortfall: MaxCostShortfall | undefined): HoldAnswer {
  const message = "what is left of its max_cost does not cover a lease: submit it again with more";
  if (shortfall?.final !== true) return { kind: "refused", message };
  const { neededNanos, leftNanos } = shortfall;
  return { kind: "refused", message, spent: { neededNanos, leftNanos } };
}

function toAnswer(outcome: HoldOutcome): HoldAnswer {
  switch (outcome.status) {
    case HoldStatus.OPEN:
      return {
        kind: "open",
        fundedMs: Number(outcome.fundedMs),
        priceVersions: new Map(outcome.prices.map((price) => [price.sku, price.version])),
      };
    case HoldStatus.CLOSED:
      return { kind: "closed" };
    case HoldStatus.NO_PRICE:
      return { kind: "refused", message: "the price book has no price for these GPUs" };
    case HoldStatus.MAX_COST_REACHED:
      return maxCostReached(outcome.maxCostShortfall);
    // A status that a newer billing may send gives no hold.
    default:
      return {
        kind: "refused",
        message: accountTooShort,
      };
  }
}
