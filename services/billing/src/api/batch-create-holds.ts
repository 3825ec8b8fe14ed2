import type { MessageInitShape } from "@bufbuild/protobuf";
import { HoldStatus } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type {
  CreateHold,
  HoldOutcomeSchema,
  HoldService,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { AttemptId } from "@fastgpu/domain/ids";
import { maxCoverMs } from "@fastgpu/ledger/hold";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { createHolds } from "../holds/create-holds.ts";
import type { HoldOutcome, HoldRequest } from "../holds/create-holds.ts";
import { idField } from "./names.ts";

/** Sets money aside for a batch of attempts. */
export function batchCreateHolds(
  billing: Billing,
): Handler<typeof HoldService.method.batchCreateHolds> {
  return async (request) => {
    const wishes = request.holds.map(parse);
    const outcomes = await createHolds(billing, request.leaderEpoch, wishes);
    return {
      outcomes: wishes.map((wish, i) => outcomeMessage(wish.attempt, outcomes[i])),
    };
  };
}

function parse(hold: CreateHold, i: number): HoldRequest {
  const at = `holds[${i}]`;
  return {
    attempt: idField("att", hold.attempt, `${at}.attempt`),
    task: idField("task", hold.task, `${at}.task`),
    org: idField("org", hold.org, `${at}.org`),
    project: idField("proj", hold.project, `${at}.project`),
    items: hold.items.map(({ sku, quantity }) => ({ sku, quantity })),
    coverMs: coverOf(hold.coverMs),
    minCoverMs: coverOf(hold.minCoverMs),
    maxCostNanos: hold.maxCostNanos === 0n ? undefined : hold.maxCostNanos,
  };
}

/** A time to cover; longer ones than the greatest are cut to it, which is what a hold would do. */
export function coverOf(ms: bigint): number {
  return ms > BigInt(maxCoverMs) ? maxCoverMs : Number(ms);
}

/** An outcome on the wire. */
export function outcomeMessage(
  attempt: AttemptId,
  outcome: HoldOutcome | undefined,
): MessageInitShape<typeof HoldOutcomeSchema> {
  switch (outcome?.kind) {
    case "open":
      return {
        attempt,
        status: HoldStatus.OPEN,
        fundedMs: BigInt(outcome.fundedMs),
        prices: outcome.items.map(({ sku, version }) => ({ sku, version })),
      };
    case "budget_exhausted":
      return {
        attempt,
        status: HoldStatus.BUDGET_EXHAUSTED,
        fundedMs: BigInt(outcome.fundedMs),
      };
    case "closed":
      return { attempt, status: HoldStatus.CLOSED };
    case "max_cost_reached":
      return {
        attempt,
        status: HoldStatus.MAX_COST_REACHED,
        maxCostShortfall: {
          neededNanos: outcome.neededNanos,
          leftNanos: outcome.leftNanos,
          final: outcome.final,
        },
      };
    case "no_price":
      return { attempt, status: HoldStatus.NO_PRICE };
    case undefined:
      throw new Error(`no outcome for ${attempt}`);
  }
}
