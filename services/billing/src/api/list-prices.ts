import type { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { priceMessage } from "./messages.ts";

/** Lists the prices in force, by SKU. */
export function listPrices(billing: Billing): Handler<typeof BillingService.method.listPrices> {
  return async () => {
    await billing.prices.refresh(0);
    return { prices: billing.prices.inForce().map(priceMessage) };
  };
}
