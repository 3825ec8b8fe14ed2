import type { PricedItem } from "./cover.ts";
import { coveredMs, coverNanos } from "./cover.ts";
import type { Transfer } from "./transfer.ts";

/** Longest time that one hold may cover, in milliseconds: ten years keep every product within a bigint column. */
export const maxCoverMs = 10 * 365 * 24 * 3_600_000;

/** Where a hold stands. A closed hold never opens again. */
export type HoldStatus = "open" | "closed" | "voided";

/**
 * Money set aside for one attempt; its id is the attempt's. While it is open, held − charged is the amount of exactly
 * one pending transfer (`pendingId`; undefined where that is nothing).
 */
export interface Hold {
  readonly status: HoldStatus;
  /** The organisation's account. */
  readonly debit: string;
  /** Where charges go. */
  readonly credit: string;
  readonly items: readonly PricedItem[];
  /** Billable time that the hold covers in all, in milliseconds since the billing start. */
  readonly fundedMs: number;
  /** What that time costs: the most that can ever be charged. */
  readonly heldNanos: bigint;
  /** Charged so far, ≤ heldNanos. */
  readonly chargedNanos: bigint;
  /** Number of the last extension that was granted. */
  readonly extension: number;
  readonly pendingId: string | undefined;
}

/** A step's outcome: the hold as it is now and what the ledger has to record. */
export interface HoldStep {
  readonly hold: Hold;
  readonly transfers: readonly Transfer[];
}

/** Makes ids of transfers. */
export type NextId = () => string;

/** Options of {@link createHold}. */
export interface CreateHoldOptions {
  readonly debit: string;
  readonly credit: string;
  readonly items: readonly PricedItem[];
  /** Time to cover, in milliseconds. */
  readonly coverMs: number;
  /** Least time that is of use, in milliseconds. */
  readonly minCoverMs: number;
  /** What the debit account has left. */
  readonly availableNanos: bigint;
  readonly nextId: NextId;
}

/** Sets aside what `coverMs` costs, or as much as there is; nothing where that is less than `minCoverMs`. */
export function createHold(options: CreateHoldOptions): HoldStep | "budget_exhausted" {
  const { items, nextId } = options;
  const coverMs = Math.min(options.coverMs, maxCoverMs);
  const fundedMs = coveredMs(items, options.availableNanos, coverMs);
  if (fundedMs < Math.min(options.minCoverMs, coverMs)) return "budget_exhausted";
  const heldNanos = coverNanos(items, fundedMs);
  const { debit, credit } = options;
  const empty: Hold = {
    status: "open",
    debit,
    credit,
    items,
    fundedMs,
    heldNanos,
    chargedNanos: 0n,
    extension: 0,
    pendingId: undefined,
  };
  return setAside(empty, [], nextId);
}

/** Options of {@link extendHold}. */
export interface ExtendHoldOptions {
  /** Number of the extension, from 1. */
  readonly n: number;
  /** Time to cover in all, from the billing start, in milliseconds. */
  readonly coverMs: number;
  readonly availableNanos: bigint;
  readonly nextId: NextId;
}

/**
 * Extends an open hold to `coverMs`, or as far as the money goes. A number that was granted before changes nothing;
 * one that was refused may be asked again, since money may have come in.
 */
export function extendHold(
  hold: Hold,
  options: ExtendHoldOptions,
): HoldStep | "closed" | "budget_exhausted" {
  if (hold.status !== "open") return "closed";
  if (options.n <= hold.extension) return { hold, transfers: [] };
  const capMs = Math.max(hold.fundedMs, Math.min(options.coverMs, maxCoverMs));
  const fundedMs = Math.max(
    hold.fundedMs,
    coveredMs(hold.items, hold.heldNanos + options.availableNanos, capMs),
  );
  if (fundedMs === hold.fundedMs && capMs > fundedMs) return "budget_exhausted";
  const heldNanos = coverNanos(hold.items, fundedMs);
  const extended = { ...hold, fundedMs, heldNanos, extension: options.n };
  if (heldNanos === hold.heldNanos) return { hold: extended, transfers: [] };
  return setAside(extended, release(hold, options.nextId), options.nextId);
}

/** A charge's outcome. */
export interface ChargeStep extends HoldStep {
  /** What the hold did not cover: the platform's loss, never the customer's. */
  readonly overrunNanos: bigint;
}

/** Options of {@link chargeHold}. */
export interface ChargeOptions {
  /** Rated usage, ≥ 0. */
  readonly amountNanos: bigint;
  /** True where nothing more follows: the hold closes and gives back the rest. */
  readonly final: boolean;
  /** Account that pays overruns. */
  readonly lossAccount: string;
  readonly nextId: NextId;
}

/** Charges usage to a hold, up to what it holds; a hold that is not open pays nothing. */
export function chargeHold(hold: Hold, options: ChargeOptions): ChargeStep {
  const { amountNanos, nextId } = options;
  const left = hold.status === "open" ? hold.heldNanos - hold.chargedNanos : 0n;
  const charge = amountNanos < left ? amountNanos : left;
  const overrunNanos = amountNanos - charge;
  const transfers: Transfer[] = [];
  let next = hold;
  if (charge > 0n && hold.pendingId !== undefined) {
    transfers.push({
      kind: "post",
      id: nextId(),
      code: "charge",
      debit: hold.debit,
      credit: hold.credit,
      amountNanos: charge,
      pendingId: hold.pendingId,
      pendingNanos: left,
    });
    next = { ...hold, chargedNanos: hold.chargedNanos + charge, pendingId: undefined };
    if (!options.final) {
      const rest = setAside(next, transfers, nextId);
      return { ...withOverrun(rest, options, overrunNanos), overrunNanos };
    }
  }
  if (options.final && hold.status === "open") {
    transfers.push(...release(next, nextId));
    next = { ...next, status: "closed", pendingId: undefined };
  }
  return { ...withOverrun({ hold: next, transfers }, options, overrunNanos), overrunNanos };
}

/** Gives a hold back for an attempt that was never leased; one that is not open stays as it is. */
export function voidHold(hold: Hold, nextId: NextId): HoldStep {
  if (hold.status !== "open") return { hold, transfers: [] };
  return {
    hold: { ...hold, status: "voided", pendingId: undefined },
    transfers: release(hold, nextId),
  };
}

/** A hold that never was: usage of an attempt that billing knows nothing of is the platform's loss. */
export function missingHold(debit: string, credit: string): Hold {
  return {
    status: "voided",
    debit,
    credit,
    items: [],
    fundedMs: 0,
    heldNanos: 0n,
    chargedNanos: 0n,
    extension: 0,
    pendingId: undefined,
  };
}

function setAside(hold: Hold, before: readonly Transfer[], nextId: NextId): HoldStep {
  const amountNanos = hold.heldNanos - hold.chargedNanos;
  if (amountNanos === 0n) return { hold: { ...hold, pendingId: undefined }, transfers: before };
  const id = nextId();
  const { debit, credit } = hold;
  const pending: Transfer = { kind: "pending", id, code: "hold", debit, credit, amountNanos };
  return { hold: { ...hold, pendingId: id }, transfers: [...before, pending] };
}

function release(hold: Hold, nextId: NextId): Transfer[] {
  if (hold.pendingId === undefined) return [];
  return [
    {
      kind: "void",
      id: nextId(),
      code: "release",
      debit: hold.debit,
      credit: hold.credit,
      amountNanos: hold.heldNanos - hold.chargedNanos,
      pendingId: hold.pendingId,
    },
  ];
}

function withOverrun(step: HoldStep, options: ChargeOptions, amountNanos: bigint): HoldStep {
  if (amountNanos === 0n) return step;
  const overrun: Transfer = {
    kind: "posted",
    id: options.nextId(),
    code: "overrun",
    debit: options.lossAccount,
    credit: step.hold.credit,
    amountNanos,
  };
  return { hold: step.hold, transfers: [...step.transfers, overrun] };
}
