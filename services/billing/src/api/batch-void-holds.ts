import type { HoldService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { voidHolds } from "../holds/void-holds.ts";
import { idField } from "./names.ts";

/** Gives holds back for attempts that were never leased. */
export function batchVoidHolds(
  billing: Billing,
): Handler<typeof HoldService.method.batchVoidHolds> {
  return async (request) => {
    const attempts = request.attempts.map((id, i) => idField("att", id, `attempts[${i}]`));
    await voidHolds(billing, request.leaderEpoch, attempts);
    return {};
  };
}
