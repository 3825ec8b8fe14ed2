import type { HoldService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { extendHolds } from "../holds/extend-holds.ts";
import { coverOf, outcomeMessage } from "./batch-create-holds.ts";
import { idField } from "./names.ts";

/** Sets more money aside for running attempts. */
export function batchExtendHolds(
  billing: Billing,
): Handler<typeof HoldService.method.batchExtendHolds> {
  return async (request) => {
    const wishes = request.holds.map((hold, i) => ({
      attempt: idField("att", hold.attempt, `holds[${i}].attempt`),
      n: hold.n,
      coverMs: coverOf(hold.coverMs),
    }));
    const outcomes = await extendHolds(billing, request.leaderEpoch, wishes);
    return {
      outcomes: wishes.map((wish, i) => outcomeMessage(wish.attempt, outcomes[i])),
    };
  };
}
