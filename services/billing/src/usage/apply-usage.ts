import type { TaskId } from "@fastgpu/domain/ids";
import { chargeHold } from "@fastgpu/ledger/hold";
import type { NextId } from "@fastgpu/ledger/hold";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Billing } from "../billing.ts";
import { entriesOf, toHold, withHold } from "../holds/hold-mapping.ts";
import { currency, lockAccounts, platformAccounts } from "../store/accounts.ts";
import { lockHolds, writeCharges, writeHolds } from "../store/holds.ts";
import type { HoldRow } from "../store/holds.ts";
import { addTaskCosts } from "../store/task-costs.ts";
import type { TaskCostChange } from "../store/task-costs.ts";
import { record } from "../store/transfers.ts";
import type { Entry } from "../store/transfers.ts";
import type { UsageOwner } from "../store/usage.ts";
import { transferIds } from "../transfer-ids.ts";
import { rateUsage } from "./rate-usage.ts";
import type { UsageCut } from "./rate-usage.ts";

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
  const { added, segments, unpriced } = await rateUsage(tx, billing.prices, cuts);
  const orgs = cuts.map((cut) => cut.owner.org);
  await lockAccounts(tx, orgs, ["revenue", "loss"]);
  const attempts = new Map(cuts.map((cut) => [cut.owner.attempt, cut.owner]));
  const final = new Set(cuts.filter((cut) => cut.final).map((cut) => cut.owner.attempt));
  const holds = await lockHolds(tx, attempts.keys());

  const nowMs = billing.clock.nowMs();
  const charges: Charges = {
    rows: [],
    missing: [],
    entries: [],
    costs: new Map(),
    overrunNanos: 0n,
  };
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
  await writeCharges(tx, charges.rows, nowMs);
  await writeHolds(tx, charges.missing, nowMs);
  await record(tx, charges.entries, { currency, nowMs });
  await addTaskCosts(tx, [...charges.costs.values()]);
  const { overrunNanos } = charges;
  return { records, repeated: segments - records, unpriced, overrunNanos };
}

interface Charges {
  readonly rows: HoldRow[];
  /** Stand for holds that are not there. */
  readonly missing: HoldRow[];
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
  if (!of.known) charges.missing.push(withHold(of.row, step.hold));
  else if (step.hold !== before) charges.rows.push(withHold(of.row, step.hold));
  const chargedNanos = step.hold.chargedNanos - of.row.chargedNanos;
  if (chargedNanos === 0n) return;
  const { task, org, project } = of.row;
  const sum = (charges.costs.get(task)?.chargedNanos ?? 0n) + chargedNanos;
  charges.costs.set(task, { task, org, project, chargedNanos: sum, ended: false });
}

/** Stands for the hold of an attempt that billing knows nothing of: it pays nothing, the platform bears the loss. */
function missingRow(owner: UsageOwner): HoldRow {
  const nothing = {
    items: [],
    maxCostNanos: undefined,
    fundedMs: 0,
    heldNanos: 0n,
    chargedNanos: 0n,
    extension: 0,
  };
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
