import type { HoldService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { raiseLeaderEpoch } from "../store/fence.ts";
import { listOpenHolds as read } from "../store/holds.ts";
import { idField } from "./names.ts";

/** Lists open holds of older leaders, after fencing them: none can be added behind the list. */
export function listOpenHolds(billing: Billing): Handler<typeof HoldService.method.listOpenHolds> {
  return async (request) => {
    const after =
      request.afterAttempt === ""
        ? undefined
        : idField("att", request.afterAttempt, "after_attempt");
    await raiseLeaderEpoch(billing.db.core, request.beforeLeaderEpoch);
    return { attempts: await read(billing.db.core, request.beforeLeaderEpoch, after) };
  };
}
