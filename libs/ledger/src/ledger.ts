import type { AccountKind, AccountTotals } from "./account.ts";
import { addTotals, availableNanos, isFunded, zeroTotals } from "./account.ts";
import type { Transfer } from "./transfer.ts";
import { accountDeltas } from "./transfer.ts";

/** An account of the model. */
export interface Account {
  readonly kind: AccountKind;
  readonly currency: string;
  readonly totals: AccountTotals;
}

/** The whole ledger in memory: the model that the database is tested against, and the ledger of simulations. */
export interface Ledger {
  readonly accounts: Map<string, Account>;
  readonly transfers: Map<string, Transfer>;
  /** Pending transfers that were posted or voided, with what did it. */
  readonly resolved: Map<string, string>;
}

/** What became of a transfer. Everything but `applied` leaves the ledger as it was. */
export type TransferOutcome =
  | "applied"
  /** The same transfer was applied before. */
  | "exists"
  /** Another transfer has this id. */
  | "id_reused"
  | "unknown_account"
  | "same_account"
  | "currency_mismatch"
  | "amount_not_positive"
  /** The debit account may not be overdrawn and does not hold that much. */
  | "exceeds_funds"
  /** The pending transfer does not exist, or its accounts or amount are others. */
  | "not_pending"
  /** It was posted or voided before. */
  | "already_resolved"
  | "exceeds_pending";

/** A ledger without accounts. */
export function emptyLedger(): Ledger {
  return { accounts: new Map(), transfers: new Map(), resolved: new Map() };
}

/** Opens an account with nothing on it; does nothing where it exists. */
export function openAccount(
  ledger: Ledger,
  id: string,
  options: { kind: AccountKind; currency: string },
): void {
  if (!ledger.accounts.has(id)) ledger.accounts.set(id, { ...options, totals: zeroTotals });
}

/** Applies one transfer to the ledger, or says why not. */
export function applyTransfer(ledger: Ledger, transfer: Transfer): TransferOutcome {
  const before = ledger.transfers.get(transfer.id);
  if (before !== undefined) return sameTransfer(before, transfer) ? "exists" : "id_reused";
  const refusal = checkAccounts(ledger, transfer) ?? checkPending(ledger, transfer);
  if (refusal !== undefined) return refusal;

  const changed: [string, Account][] = [];
  for (const [id, delta] of accountDeltas([transfer])) {
    const account = ledger.accounts.get(id);
    if (account === undefined) return "unknown_account";
    const totals = addTotals(account.totals, delta);
    if (isFunded(account.kind) && id === transfer.debit && availableNanos(totals) < 0n) {
      return "exceeds_funds";
    }
    changed.push([id, { ...account, totals }]);
  }
  for (const [id, account] of changed) ledger.accounts.set(id, account);
  ledger.transfers.set(transfer.id, transfer);
  if (transfer.kind === "post" || transfer.kind === "void") {
    ledger.resolved.set(transfer.pendingId, transfer.id);
  }
  return "applied";
}

/** Σ over all accounts of debits − credits, pending and posted apart: both are 0, always (I9). */
export function trialBalance(accounts: Iterable<AccountTotals>): {
  readonly pendingNanos: bigint;
  readonly postedNanos: bigint;
} {
  let pendingNanos = 0n;
  let postedNanos = 0n;
  for (const totals of accounts) {
    pendingNanos += totals.debitsPendingNanos - totals.creditsPendingNanos;
    postedNanos += totals.debitsPostedNanos - totals.creditsPostedNanos;
  }
  return { pendingNanos, postedNanos };
}

function checkAccounts(ledger: Ledger, transfer: Transfer): TransferOutcome | undefined {
  if (transfer.amountNanos <= 0n) return "amount_not_positive";
  if (transfer.debit === transfer.credit) return "same_account";
  const debit = ledger.accounts.get(transfer.debit);
  const credit = ledger.accounts.get(transfer.credit);
  if (debit === undefined || credit === undefined) return "unknown_account";
  return debit.currency === credit.currency ? undefined : "currency_mismatch";
}

function checkPending(ledger: Ledger, transfer: Transfer): TransferOutcome | undefined {
  if (transfer.kind === "posted" || transfer.kind === "pending") return undefined;
  const pending = ledger.transfers.get(transfer.pendingId);
  const wholeNanos = transfer.kind === "post" ? transfer.pendingNanos : transfer.amountNanos;
  if (
    pending?.kind !== "pending" ||
    pending.debit !== transfer.debit ||
    pending.credit !== transfer.credit ||
    pending.amountNanos !== wholeNanos
  ) {
    return "not_pending";
  }
  if (ledger.resolved.has(transfer.pendingId)) return "already_resolved";
  return transfer.amountNanos > pending.amountNanos ? "exceeds_pending" : undefined;
}

function sameTransfer(a: Transfer, b: Transfer): boolean {
  const resolves = (t: Transfer) => ("pendingId" in t ? t.pendingId : undefined);
  return (
    a.kind === b.kind &&
    a.code === b.code &&
    a.debit === b.debit &&
    a.credit === b.credit &&
    a.amountNanos === b.amountNanos &&
    resolves(a) === resolves(b)
  );
}
