import type { AccountTotals } from "./account.ts";

/** Why money moved. */
export const transferCodes = ["grant", "hold", "release", "charge", "overrun"] as const;
export type TransferCode = (typeof transferCodes)[number];

interface TransferBase {
  /** Client-made: a repeat with the same id moves nothing. */
  readonly id: string;
  readonly code: TransferCode;
  /** Account that is debited. */
  readonly debit: string;
  /** Account that is credited; never the same as `debit`. */
  readonly credit: string;
  /** Above 0, nano-units of the currency of both accounts. */
  readonly amountNanos: bigint;
}

/** Moves money at once. */
export interface PostedTransfer extends TransferBase {
  readonly kind: "posted";
}

/** Sets money aside until it is posted or voided, once. */
export interface PendingTransfer extends TransferBase {
  readonly kind: "pending";
}

/** Posts `amountNanos` of a pending transfer, at most all of it, and releases the rest. */
export interface PostTransfer extends TransferBase {
  readonly kind: "post";
  readonly pendingId: string;
  /** Amount of the pending transfer. */
  readonly pendingNanos: bigint;
}

/** Releases a pending transfer; `amountNanos` is its whole amount. */
export interface VoidTransfer extends TransferBase {
  readonly kind: "void";
  readonly pendingId: string;
}

/**
 * One immutable entry of the ledger. Debit and credit stand in one row, so that the sum over all accounts is zero by
 * construction. The two phases follow TigerBeetle's pending transfers.
 */
export type Transfer = PostedTransfer | PendingTransfer | PostTransfer | VoidTransfer;

/** What one transfer does to the totals of its debit account; the credit account gets the mirror image. */
function effect(transfer: Transfer): { readonly pending: bigint; readonly posted: bigint } {
  switch (transfer.kind) {
    case "posted":
      return { pending: 0n, posted: transfer.amountNanos };
    case "pending":
      return { pending: transfer.amountNanos, posted: 0n };
    case "post":
      return { pending: -transfer.pendingNanos, posted: transfer.amountNanos };
    case "void":
      return { pending: -transfer.amountNanos, posted: 0n };
  }
}

interface MutableTotals {
  debitsPendingNanos: bigint;
  debitsPostedNanos: bigint;
  creditsPendingNanos: bigint;
  creditsPostedNanos: bigint;
}

/** By how much transfers change each account: one update per account and batch, however hot the account is. */
export function accountDeltas(transfers: Iterable<Transfer>): Map<string, AccountTotals> {
  const deltas = new Map<string, MutableTotals>();
  const of = (account: string): MutableTotals => {
    let delta = deltas.get(account);
    if (delta === undefined) {
      delta = {
        debitsPendingNanos: 0n,
        debitsPostedNanos: 0n,
        creditsPendingNanos: 0n,
        creditsPostedNanos: 0n,
      };
      deltas.set(account, delta);
    }
    return delta;
  };
  for (const transfer of transfers) {
    const { pending, posted } = effect(transfer);
    const debit = of(transfer.debit);
    debit.debitsPendingNanos += pending;
    debit.debitsPostedNanos += posted;
    const credit = of(transfer.credit);
    credit.creditsPendingNanos += pending;
    credit.creditsPostedNanos += posted;
  }
  return deltas;
}
