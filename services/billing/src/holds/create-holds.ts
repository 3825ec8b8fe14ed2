import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { availableNanos } from "@fastgpu/ledger/account";
import { coverNanos } from "@fastgpu/ledger/cover";
import { createHold } from "@fastgpu/ledger/hold";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Billing } from "../billing.ts";
import type { PriceBook } from "../price-book.ts";
import { currency, lockAccounts, platformAccounts } from "../store/accounts.ts";
import type { OrgAccount } from "../store/accounts.ts";
import { checkLeaderEpoch, raiseLeaderEpoch } from "../store/fence.ts";
import { committedNanos, lockHolds, voidedBefore, writeHolds } from "../store/holds.ts";
import type { Committed, HoldRow, PinnedItem } from "../store/holds.ts";
import { record } from "../store/transfers.ts";
import type { Entry } from "../store/transfers.ts";
import { transferIds } from "../transfer-ids.ts";
import { entriesOf, pricedItems } from "./hold-mapping.ts";

/** Wish for one hold; times in milliseconds. */
export interface HoldRequest {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly items: readonly { readonly sku: string; readonly quantity: number }[];
  readonly coverMs: number;
  readonly minCoverMs: number;
  /** The most that all attempts of the task may cost together. */
  readonly maxCostNanos?: bigint | undefined;
}

/** What became of a hold. */
export type HoldOutcome =
  | { readonly kind: "open"; readonly fundedMs: number; readonly items: readonly PinnedItem[] }
  | { readonly kind: "budget_exhausted"; readonly fundedMs: number }
  | { readonly kind: "closed" }
  | { readonly kind: "no_price" }
  | {
      /** What the task may cost leaves less than the least hold needs. */
      readonly kind: "max_cost_reached";
      readonly neededNanos: bigint;
      readonly leftNanos: bigint;
      /** Nothing of what it has used will come back. */
      readonly final: boolean;
    };

/** How old the price book in memory may be when an attempt pins its price. */
export const PRICE_AGE_MS = 5_000;

/**
 * Sets money aside for a batch of attempts, each in the order of the batch from what its organisation has left.
 * One transaction of seven statements, whatever the size. Throws FENCED where a newer leader has been seen.
 */
export async function createHolds(
  billing: Billing,
  leaderEpoch: bigint,
  requests: readonly HoldRequest[],
): Promise<HoldOutcome[]> {
  await billing.prices.refresh(PRICE_AGE_MS);
  await billing.organizations.ensureVouched(
    new Map(requests.map((request) => [request.org, request.project])),
  );
  await raiseLeaderEpoch(billing.db.core, leaderEpoch);
  return transaction(billing.db.core, async (tx) => {
    await checkLeaderEpoch(tx, leaderEpoch, { alone: false });
    const attempts = requests.map((request) => request.attempt);
    const accounts = await lockAccounts(
      tx,
      requests.map((request) => request.org),
      ["revenue"],
    );
    const plan = planCreates(requests, {
      accounts,
      prices: billing.prices,
      existing: await lockHolds(tx, attempts),
      voided: await voidedBefore(tx, attempts),
      committed: await committedNanos(tx, boundedTasks(requests)),
      leaderEpoch,
      nowMs: billing.clock.nowMs(),
    });
    await writeHolds(tx, plan.rows, plan.nowMs);
    await record(tx, plan.entries, { currency, nowMs: plan.nowMs });
    return plan.outcomes;
  });
}

interface CreateState {
  readonly accounts: ReadonlyMap<OrgId, OrgAccount>;
  readonly prices: PriceBook;
  readonly existing: ReadonlyMap<AttemptId, HoldRow>;
  readonly voided: ReadonlySet<AttemptId>;
  /** Of tasks with a most that they may cost: what is spent or held of it. */
  readonly committed: ReadonlyMap<TaskId, Committed>;
  readonly leaderEpoch: bigint;
  readonly nowMs: number;
}

interface CreatePlan {
  readonly outcomes: HoldOutcome[];
  readonly rows: HoldRow[];
  readonly entries: Entry[];
  readonly nowMs: number;
}

/** Decides a batch under locks; nothing is written here. */
function planCreates(requests: readonly HoldRequest[], state: CreateState): CreatePlan {
  const nextId = transferIds(state.nowMs);
  const made = new Map<AttemptId, HoldRow>();
  const left = new Map<OrgId, bigint>();
  for (const account of state.accounts.values()) {
    left.set(account.org, availableNanos(account.totals));
  }
  const committed = new Map(state.committed);
  const entries: Entry[] = [];
  const decide = (request: HoldRequest): HoldOutcome => {
    const before = made.get(request.attempt) ?? state.existing.get(request.attempt);
    if (before !== undefined) return outcomeOf(before);
    if (state.voided.has(request.attempt)) return { kind: "closed" };
    const items = pin(state.prices, request.items);
    if (items === undefined) return { kind: "no_price" };
    const account = state.accounts.get(request.org);
    if (account === undefined) return { kind: "budget_exhausted", fundedMs: 0 };
    const available = left.get(request.org) ?? 0n;
    const { maxCostNanos } = request;
    const { nanos: used, open } = committed.get(request.task) ?? { nanos: 0n, open: false };
    const allowed = maxCostNanos === undefined ? available : maxCostNanos - used;
    const step = createHold({
      debit: account.id,
      credit: platformAccounts.revenue,
      items: pricedItems(state.prices, items),
      coverMs: request.coverMs,
      minCoverMs: request.minCoverMs,
      availableNanos: allowed < available ? allowed : available,
      nextId,
    });
    if (step === "budget_exhausted") {
      if (allowed >= available) return { kind: "budget_exhausted", fundedMs: 0 };
      const neededNanos = coverNanos(pricedItems(state.prices, items), request.minCoverMs);
      const leftNanos = allowed > 0n ? allowed : 0n;
      return { kind: "max_cost_reached", neededNanos, leftNanos, final: !open };
    }
    const { attempt, task, org, project } = request;
    const { status, fundedMs, heldNanos, chargedNanos, extension, pendingId } = step.hold;
    const row: HoldRow = {
      ...{ attempt, task, org, project, account: account.id, items },
      leaderEpoch: state.leaderEpoch,
      ...{ status, fundedMs, heldNanos, chargedNanos, extension, pendingId, maxCostNanos },
    };
    committed.set(task, { nanos: used + heldNanos, open: true });
    made.set(attempt, row);
    left.set(org, available - step.hold.heldNanos);
    entries.push(...entriesOf(row, step.transfers));
    return outcomeOf(row);
  };
  const outcomes = requests.map(decide);
  return { outcomes, rows: [...made.values()], entries, nowMs: state.nowMs };
}

/** Tasks that have a most that they may cost. */
const boundedTasks = (requests: readonly HoldRequest[]): TaskId[] =>
  requests.flatMap(({ task, maxCostNanos }) => (maxCostNanos === undefined ? [] : [task]));

function pin(prices: PriceBook, items: HoldRequest["items"]): PinnedItem[] | undefined {
  const pinned: PinnedItem[] = [];
  for (const { sku, quantity } of items) {
    const price = prices.current(sku);
    if (price === undefined) return undefined;
    pinned.push({ sku, version: price.version, quantity });
  }
  return pinned;
}

/** The answer that a hold as it stands gives, to the first request and to every repeat. */
export function outcomeOf(row: HoldRow): HoldOutcome {
  if (row.status !== "open") return { kind: "closed" };
  return { kind: "open", fundedMs: row.fundedMs, items: row.items };
}
