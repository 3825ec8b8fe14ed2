import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type {
  BalanceSchema,
  PriceSchema,
  UsageRecordSchema,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { MoneySchema } from "@fastgpu/contracts/fastgpu/type/v1/money_pb";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { availableNanos, balanceNanos, heldNanos } from "@fastgpu/ledger/account";
import type { AccountTotals } from "@fastgpu/ledger/account";
import type { UsageKind as DomainKind } from "@fastgpu/ledger/rate";
import { currency } from "../store/accounts.ts";
import type { Price } from "../store/prices.ts";
import type { UsageRecord } from "../store/usage.ts";
import { balanceName, taskName } from "./names.ts";

/** An amount on the wire. */
export function moneyMessage(nanos: bigint): MessageInitShape<typeof MoneySchema> {
  return { currency, nanos };
}

/** A balance on the wire. */
export function balanceMessage(
  org: OrgId,
  totals: AccountTotals,
): MessageInitShape<typeof BalanceSchema> {
  return {
    name: balanceName(org),
    balance: moneyMessage(balanceNanos(totals)),
    held: moneyMessage(heldNanos(totals)),
    available: moneyMessage(availableNanos(totals)),
  };
}

/** A price on the wire. */
export function priceMessage(price: Price): MessageInitShape<typeof PriceSchema> {
  return {
    sku: price.sku,
    version: price.version,
    perHour: { currency: price.currency, nanos: price.hourlyNanos },
    validFrom: timestampFromMs(price.validFromMs),
    description: price.description,
  };
}

const wireKinds: Readonly<Record<DomainKind, UsageKind>> = {
  starting: UsageKind.STARTING,
  billable: UsageKind.BILLABLE,
  stopping: UsageKind.STOPPING,
  fault: UsageKind.FAULT,
  sanitising: UsageKind.SANITISING,
  unknown: UsageKind.UNKNOWN,
};

const domainKinds: ReadonlyMap<UsageKind, DomainKind> = new Map(
  Object.entries(wireKinds).map(([domain, wire]) => [wire, domain as DomainKind]),
);

/** The domain's word for a kind on the wire; `undefined` for one that this version does not know. */
export function usageKindOf(wire: UsageKind): DomainKind | undefined {
  return domainKinds.get(wire);
}

/** A usage record on the wire. */
export function usageMessage(
  project: ProjectId,
  record: UsageRecord,
): MessageInitShape<typeof UsageRecordSchema> {
  return {
    task: taskName(project, record.task),
    attempt: record.attempt,
    gpu: record.gpu,
    seq: record.seq,
    kind: wireKinds[record.kind],
    sku: record.sku,
    startTime: timestampFromMs(record.startMs),
    endTime: timestampFromMs(record.endMs),
    amount: moneyMessage(record.amountNanos),
    freeReason: record.freeReason ?? "",
    simulated: record.simulated,
  };
}
