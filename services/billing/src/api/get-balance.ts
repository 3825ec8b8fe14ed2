import type { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { OrgId } from "@fastgpu/domain/ids";
import type { Billing } from "../billing.ts";
import { readAccount } from "../store/accounts.ts";
import { balanceMessage } from "./messages.ts";
import { orgOfBalance } from "./names.ts";

/** Reads an organisation's money. */
export function getBalance(billing: Billing): Handler<typeof BillingService.method.getBalance> {
  return async (request, context) => {
    const org = orgOfBalance(request.name);
    await needAccount(billing, context, org);
    const account = await transaction(billing.db.api, async (tx) => {
      await withTenant(tx, { org, project: "all" });
      return readAccount(tx, org);
    });
    if (account === undefined) throw Fault.notFound(request.name);
    return balanceMessage(org, account.totals);
  };
}

/**
 * Sees to it that the organisation has an account: its own token proves that it exists, for others auth is asked.
 * Throws NOT_FOUND where it does not exist, UNAVAILABLE where auth does not answer.
 */
export async function needAccount(
  billing: Billing,
  context: CallContext,
  org: OrgId,
): Promise<void> {
  if (context.principal.org === org) {
    await billing.organizations.ensureKnown(org);
    return;
  }
  if (!(await billing.organizations.ensureExisting(org))) {
    throw Fault.notFound(`organizations/${org}`);
  }
}
