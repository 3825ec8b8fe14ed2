import { idToUuid } from "@fastgpu/domain/ids";
import type { PricedItem } from "@fastgpu/ledger/cover";
import type { Hold } from "@fastgpu/ledger/hold";
import type { PriceBook } from "../price-book.ts";
import { platformAccounts } from "../store/accounts.ts";
import type { HoldRow, PinnedItem } from "../store/holds.ts";
import type { Entry } from "../store/transfers.ts";

/** Items at their pinned prices. Throws where the price book has lost one: it only grows, so that is a bug. */
export function pricedItems(prices: PriceBook, items: readonly PinnedItem[]): PricedItem[] {
  return items.map(({ sku, version, quantity }) => {
    const price = prices.pinned(sku, version);
    if (price === undefined) throw new Error(`no price ${sku} version ${version}`);
    return { hourlyNanos: price.hourlyNanos, quantity };
  });
}

/** The ledger's view of a row. `items` may be empty where only charges and voids follow. */
export function toHold(row: HoldRow, items: readonly PricedItem[]): Hold {
  return {
    status: row.status,
    debit: row.account,
    credit: platformAccounts.revenue,
    items,
    fundedMs: row.fundedMs,
    heldNanos: row.heldNanos,
    chargedNanos: row.chargedNanos,
    extension: row.extension,
    pendingId: row.pendingId,
  };
}

/** The row after a step of the ledger. */
export function withHold(row: HoldRow, hold: Hold): HoldRow {
  const { status, fundedMs, heldNanos, chargedNanos, extension, pendingId } = hold;
  return { ...row, status, fundedMs, heldNanos, chargedNanos, extension, pendingId };
}

/** Transfers of a step, as entries about its attempt. */
export function entriesOf(row: HoldRow, transfers: readonly Entry["transfer"][]): Entry[] {
  const subject = idToUuid(row.attempt);
  return transfers.map((transfer) => ({ transfer, subject }));
}
