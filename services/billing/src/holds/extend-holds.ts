import type { AttemptId, OrgId } from "@fastgpu/domain/ids";
import { availableNanos } from "@fastgpu/ledger/account";
import { extendHold } from "@fastgpu/ledger/hold";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Billing } from "../billing.ts";
import { currency, lockAccounts } from "../store/accounts.ts";
import { checkLeaderEpoch, raiseLeaderEpoch } from "../store/fence.ts";
import { committedNanos, lockHolds, orgsOfHolds, writeHolds } from "../store/holds.ts";
import type { HoldRow } from "../store/holds.ts";
import { record } from "../store/transfers.ts";
import type { Entry } from "../store/transfers.ts";
import { transferIds } from "../transfer-ids.ts";
import { outcomeOf, PRICE_AGE_MS } from "./create-holds.ts";
import type { HoldOutcome } from "./create-holds.ts";
import { entriesOf, pricedItems, toHold, withHold } from "./hold-mapping.ts";

/** Wish for more cover: in all `coverMs` milliseconds from the attempt's billing start. */
export interface ExtendRequest {
  readonly attempt: AttemptId;
  /** Number of the extension, from 1. */
  readonly n: number;
  readonly coverMs: number;
}

/**
 * Extends a batch of holds, each as far as its organisation's money goes. A number granted before gets the same answer;
 * an attempt without a hold counts as closed. Throws FENCED where a newer leader has been seen.
 */
export async function extendHolds(
  billing: Billing,
  leaderEpoch: bigint,
  requests: readonly ExtendRequest[],
): Promise<HoldOutcome[]> {
  const attempts = requests.map((request) => request.attempt);
  await billing.prices.refresh(PRICE_AGE_MS);
  await raiseLeaderEpoch(billing.db.core, leaderEpoch);
  return transaction(billing.db.core, async (tx) => {
    await checkLeaderEpoch(tx, leaderEpoch, { alone: false });
    const accounts = await lockAccounts(tx, await orgsOfHolds(tx, attempts), ["revenue"]);
    const holds = await lockHolds(tx, attempts);
    const bounded = [...holds.values()].filter((row) => row.maxCostNanos !== undefined);
    const committed = await committedNanos(
      tx,
      bounded.map(({ task }) => task),
    );
    const nowMs = billing.clock.nowMs();
    const nextId = transferIds(nowMs);
    const left = new Map<OrgId, bigint>();
    for (const { org, totals } of accounts.values()) left.set(org, availableNanos(totals));

    const changed = new Map<AttemptId, HoldRow>();
    const entries: Entry[] = [];
    const decide = (request: ExtendRequest): HoldOutcome => {
      const row = changed.get(request.attempt) ?? holds.get(request.attempt);
      if (row === undefined) return { kind: "closed" };
      const available = left.get(row.org) ?? 0n;
      const before = toHold(row, pricedItems(billing.prices, row.items));
      const { n, coverMs } = request;
      const used = committed.get(row.task)?.nanos ?? 0n;
      const allowed = row.maxCostNanos === undefined ? available : row.maxCostNanos - used;
      const availableNanos = allowed < available ? allowed : available;
      const step = extendHold(before, { n, coverMs, availableNanos, nextId });
      if (step === "closed") return { kind: "closed" };
      if (step === "budget_exhausted") return { kind: step, fundedMs: row.fundedMs };
      const next = withHold(row, step.hold);
      if (step.hold !== before) changed.set(row.attempt, next);
      const moreNanos = step.hold.heldNanos - row.heldNanos;
      committed.set(row.task, { nanos: used + moreNanos, open: true });
      left.set(row.org, available - moreNanos);
      entries.push(...entriesOf(row, step.transfers));
      return outcomeOf(next);
    };
    const outcomes = requests.map(decide);
    await writeHolds(tx, [...changed.values()], nowMs);
    await record(tx, entries, { currency, nowMs });
    return outcomes;
  });
}
