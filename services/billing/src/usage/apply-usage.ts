import type { TaskId } from "@fastgpu/domain/ids";
import { chargeHold } from "@fastgpu/ledger/hold";
import type { NextId } from "@fastgpu/ledger/hold";
import { rateSegment } from "@fastgpu/ledger/rate";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Billing } from "../billing.ts";
import { entriesOf, toHold, withHold } from "../holds/hold-mapping.ts";
import type { PriceBook } from "../price-book.ts";
import { currency, lockAccounts, platformAccounts } from "../store/accounts.ts";
import { lockHolds, writeHolds } from "../store/holds.ts";
import type { HoldRow } from "../store/holds.ts";
import { addTaskCosts } from "../store/task-costs.ts";
import type { TaskCostChange } from "../store/task-costs.ts";
import { record } from "../store/transfers.ts";
import type { Entry } from "../store/transfers.ts";
import { insertUsage } from "../store/usage.ts";
import type { RatedSegment, Segment, UsageOwner } from "../store/usage.ts";
import { transferIds } from "../transfer-ids.ts";

/** Segments that the scheduler cut for one attempt. */
export interface UsageCut {
  readonly owner: UsageOwner;
  readonly segments: readonly Segment[];
  /** True where no segment follows. */
  readonly final: boolean;
}

/** What a batch did. */
export interface UsageApplied {
  /** Segments rated now. */
  readonly records: number;
  /** Segments that had been rated before: the scheduler cut them twice. */
  readonly repeated: number;
  /** Segments without a price. */
  readonly unpriced: number;
  /** What no hold covered. */
  readonly overrunNanos: bigint;
}

/** How old the price book may be when a segment names a version that it does not know. */
const UNKNOWN_PRICE_AGE_MS = 0;

/**
 * Rates segments, each once, and charges them to their holds, all in the transaction of the caller (which has also
 * moved its inbox). The key of a segment decides: one that is there already adds nothing to any charge. Charges of an
 * attempt are summed over the batch, so that the ledger takes one posting an attempt, not one a segment.
 */
export async function applyUsage(
  tx: Tx,
  billing: Billing,
  cuts: readonly UsageCut[],
): Promise<UsageApplied> {
  await knowPrices(billing.prices, cuts);
  const rated = cuts.flatMap((cut) => rate(billing.prices, cut));
  const added = await insertUsage(tx, rated);
  const orgs = cuts.map((cut) => cut.owner.org);
  await lockAccounts(tx, orgs, ["revenue", "loss"]);
  const attempts = new Map(cuts.map((cut) => [cut.owner.attempt, cut.owner]));
  const final = new Set(cuts.filter((cut) => cut.final).map((cut) => cut.owner.attempt));
  const holds = await lockHolds(tx, attempts.keys());

  const nowMs = billing.clock.nowMs();
  const charges: Charges = { rows: [], entries: [], costs: new Map(), overrunNanos: 0n };
  const nextId = transferIds(nowMs);
  let records = 0;
  for (const [attempt, owner] of attempts) {
    const usage = added.get(attempt);
    records += usage?.records ?? 0;
    const row = holds.get(attempt) ?? missingRow(owner);
    if (!holds.has(attempt)) billing.log.error({ attempt }, "usage of an attempt without a hold");
    const amountNanos = usage?.amountNanos ?? 0n;
    charge(charges, {
      row,
      known: holds.has(attempt),
      amountNanos,
      final: final.has(attempt),
      nextId,
    });
  }
  await writeHolds(tx, charges.rows, nowMs);
  await record(tx, charges.entries, { currency, nowMs });
  await addTaskCosts(tx, [...charges.costs.values()]);
  const unpriced = rated.filter((row) => row.freeReason === "no_price").length;
  return {
    records,
    repeated: rated.length - records,
    unpriced,
    overrunNanos: charges.overrunNanos,
  };
}

interface Charges {
  readonly rows: HoldRow[];
  readonly entries: Entry[];
  readonly costs: Map<TaskId, TaskCostChange>;
  overrunNanos: bigint;
}

function charge(
  charges: Charges,
  of: { row: HoldRow; known: boolean; amountNanos: bigint; final: boolean; nextId: NextId },
): void {
  const before = toHold(of.row, []);
  const step = chargeHold(before, {
    amountNanos: of.amountNanos,
    final: of.final,
    lossAccount: platformAccounts.loss,
    nextId: of.nextId,
  });
  charges.overrunNanos += step.overrunNanos;
  charges.entries.push(...entriesOf(of.row, step.transfers));
  if (step.hold !== before || !of.known) charges.rows.push(withHold(of.row, step.hold));
  const chargedNanos = step.hold.chargedNanos - of.row.chargedNanos;
  if (chargedNanos === 0n) return;
  const { task, org, project } = of.row;
  const sum = (charges.costs.get(task)?.chargedNanos ?? 0n) + chargedNanos;
  charges.costs.set(task, { task, org, project, chargedNanos: sum, ended: false });
}

function rate(prices: PriceBook, cut: UsageCut): RatedSegment[] {
  return cut.segments.map((segment) => {
    const price = prices.pinned(segment.sku, segment.priceVersion);
    const rating = rateSegment(segment.kind, segment, price?.hourlyNanos);
    return { owner: cut.owner, segment, ...rating };
  });
}

/** Versions pinned through another replica may be newer than our copy of the price book. */
async function knowPrices(prices: PriceBook, cuts: readonly UsageCut[]): Promise<void> {
  const known = cuts.every((cut) =>
    cut.segments.every((segment) => prices.pinned(segment.sku, segment.priceVersion) !== undefined),
  );
  if (!known) await prices.refresh(UNKNOWN_PRICE_AGE_MS);
}

/** Stands for the hold of an attempt that billing knows nothing of: it pays nothing, the platform bears the loss. */
function missingRow(owner: UsageOwner): HoldRow {
  const nothing = { items: [], fundedMs: 0, heldNanos: 0n, chargedNanos: 0n, extension: 0 };
  const account = platformAccounts.loss;
  return {
    ...owner,
    ...nothing,
    account,
    status: "closed",
    leaderEpoch: 0n,
    pendingId: undefined,
  };
}
