import {
  BillingService,
  HoldService,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { answerListEvents } from "@fastgpu/events/event-log";
import { service } from "@fastgpu/rpc/handlers";
import type { BoundService } from "@fastgpu/rpc/handlers";
import { batchCreateHolds } from "./api/batch-create-holds.ts";
import { batchExtendHolds } from "./api/batch-extend-holds.ts";
import { batchGetTaskCosts } from "./api/batch-get-task-costs.ts";
import { batchVoidHolds } from "./api/batch-void-holds.ts";
import { getBalance } from "./api/get-balance.ts";
import { grantCredit } from "./api/grant-credit.ts";
import { listOpenHolds } from "./api/list-open-holds.ts";
import { listPrices } from "./api/list-prices.ts";
import { listUsageRecords } from "./api/list-usage-records.ts";
import type { Billing } from "./billing.ts";

/** The services of billing with their handlers. */
export function billingServices(billing: Billing): BoundService[] {
  const log = { core: billing.db.core, producer: "billing", clock: billing.clock };
  return [
    service(BillingService, {
      getBalance: getBalance(billing),
      listUsageRecords: listUsageRecords(billing),
      batchGetTaskCosts: batchGetTaskCosts(billing),
      listPrices: listPrices(billing),
      grantCredit: grantCredit(billing),
    }),
    service(HoldService, {
      batchCreateHolds: batchCreateHolds(billing),
      batchExtendHolds: batchExtendHolds(billing),
      batchVoidHolds: batchVoidHolds(billing),
      listOpenHolds: listOpenHolds(billing),
    }),
    service(EventLogService, {
      listEvents: (request, { principal }) => {
        const consumer =
          principal.kind === "service" ? principal.id.slice("service:".length) : undefined;
        return answerListEvents(log, request, consumer);
      },
    }),
  ];
}
