import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { BalanceSchema } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type {
  BillingService,
  GrantCreditRequest,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { newEvent, topics } from "@fastgpu/events/topics";
import { addTotals, zeroTotals } from "@fastgpu/ledger/account";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { claimRequest, requestBody, requestReused } from "@fastgpu/postgres/requests";
import type { RequestKey } from "@fastgpu/postgres/requests";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Billing } from "../billing.ts";
import { deriveUuid } from "../organizations.ts";
import { currency, lockAccounts, platformAccounts } from "../store/accounts.ts";
import { record, transferAmount } from "../store/transfers.ts";
import { needAccount } from "./get-balance.ts";
import { balanceMessage } from "./messages.ts";
import { orgOfBalance } from "./names.ts";

/** Adds credit to an organisation's account, once for each request id; every grant is an audit fact. */
export function grantCredit(billing: Billing): Handler<typeof BillingService.method.grantCredit> {
  return async (request, context) => {
    const org = orgOfBalance(request.name);
    await needAccount(billing, context, org);
    const balance = await transaction(billing.db.core, (tx) =>
      grant(tx, { billing, request, context, org }),
    );
    billing.wakeRelay();
    return balance;
  };
}

interface Grant {
  readonly billing: Billing;
  readonly request: GrantCreditRequest;
  readonly context: CallContext;
  readonly org: OrgId;
}

async function grant(tx: Tx, { billing, request, context, org }: Grant) {
  const nowMs = billing.clock.nowMs();
  const account = (await lockAccounts(tx, [org], ["grants"])).get(org);
  if (account === undefined) throw Fault.notFound(request.name);
  const amountNanos = request.amountNanos;
  const credited = { ...zeroTotals, creditsPostedNanos: amountNanos };
  const after = create(BalanceSchema, balanceMessage(org, addTotals(account.totals, credited)));

  const key = requestKey(org, context.method, request.requestId);
  const body = requestBody({ name: request.name, amount_nanos: String(amountNanos) });
  const response = toBinary(BalanceSchema, after);
  const outcome = await claimRequest(tx, { key, body, response, nowMs });
  if (outcome.kind === "replay") return fromBinary(BalanceSchema, outcome.response);
  if (outcome.kind === "conflict") throw requestReused(key, outcome.field);

  // The transfer's id follows from the request id: a repeat adds nothing even after request ids were forgotten.
  const id = deriveUuid("grant", org, request.requestId);
  if ((await transferAmount(tx, id)) !== undefined) throw requestReused(key, "request_id");
  const transfer = {
    kind: "posted",
    id,
    code: "grant",
    debit: platformAccounts.grants,
    credit: account.id,
    amountNanos,
  } as const;
  await record(tx, [{ transfer, subject: idToUuid(org) }], { currency, nowMs });
  await appendEvents(tx, [auditEvent(context, { org, resource: request.name, nowMs })]);
  return after;
}

/** Requests of an organisation have no project: the organisation's own uuid stands in its place. */
function requestKey(org: OrgId, method: string, requestId: string): RequestKey {
  const project = `proj-${org.slice("org-".length)}` as ProjectId;
  return { org, project, method, requestId };
}

function auditEvent(
  context: CallContext,
  of: { readonly org: OrgId; readonly resource: string; readonly nowMs: number },
) {
  const { id, onBehalfOf } = context.principal;
  const fact = {
    principal: onBehalfOf === undefined ? id : `${onBehalfOf} via ${id}`,
    method: context.method,
    resource: of.resource,
    requestId: context.requestId,
  };
  return newEvent(topics.auditRecorded, fact, {
    aggregate: of.org,
    aggregateRevision: 1n,
    occurredMs: of.nowMs,
    org: of.org,
    traceparent: context.traceparent,
  });
}
