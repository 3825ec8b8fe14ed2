/**
 * Kinds of accounts. All amounts are nano-units of the account's currency.
 * - `org_credit`: an organisation's prepaid credit. It may never be overdrawn, holds included.
 * - `platform_revenue`: what was earned.
 * - `platform_loss`: what was used but could not be charged (an overrun of a hold).
 * - `rounding`: remainders of invoices rounded to the cent.
 * - `grants`: where granted credit comes from.
 */
export const accountKinds = [
  "org_credit",
  "platform_revenue",
  "platform_loss",
  "rounding",
  "grants",
] as const;
export type AccountKind = (typeof accountKinds)[number];

/** True where credits must cover debits and pending debits at any moment (I10). */
export function isFunded(kind: AccountKind): boolean {
  return kind === "org_credit";
}

/** The four sums of an account, as in TigerBeetle: none of them alone is a balance. Each is ≥ 0. */
export interface AccountTotals {
  readonly debitsPendingNanos: bigint;
  readonly debitsPostedNanos: bigint;
  readonly creditsPendingNanos: bigint;
  readonly creditsPostedNanos: bigint;
}

/** Totals of an account that nothing has touched. */
export const zeroTotals: AccountTotals = {
  debitsPendingNanos: 0n,
  debitsPostedNanos: 0n,
  creditsPendingNanos: 0n,
  creditsPostedNanos: 0n,
};

/** Credits less debits, both posted. */
export function balanceNanos(totals: AccountTotals): bigint {
  return totals.creditsPostedNanos - totals.debitsPostedNanos;
}

/** What is set aside by pending debits. */
export function heldNanos(totals: AccountTotals): bigint {
  return totals.debitsPendingNanos;
}

/** What new debits may use: balance − held. */
export function availableNanos(totals: AccountTotals): bigint {
  return balanceNanos(totals) - totals.debitsPendingNanos;
}

/** Sum of two totals; `b` may be a difference with negative parts. */
export function addTotals(a: AccountTotals, b: AccountTotals): AccountTotals {
  return {
    debitsPendingNanos: a.debitsPendingNanos + b.debitsPendingNanos,
    debitsPostedNanos: a.debitsPostedNanos + b.debitsPostedNanos,
    creditsPendingNanos: a.creditsPendingNanos + b.creditsPendingNanos,
    creditsPostedNanos: a.creditsPostedNanos + b.creditsPostedNanos,
  };
}
