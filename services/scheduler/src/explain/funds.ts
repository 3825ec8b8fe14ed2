import type { Price } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import type { OrgId } from "@fastgpu/domain/ids";
import { coverNanos, type PricedItem } from "@fastgpu/ledger/cover";
import { skuOf } from "@fastgpu/ledger/sku";
import type { CallContext } from "@fastgpu/rpc/context";
import { endingMs, type FundingTimes } from "../cycle/money.ts";
import type { Scheduler } from "../scheduler.ts";
import type { StoredGpu } from "../store/nodes.ts";
import type { MaxCostTooSmall, Shortfall } from "./explanation-to-wire.ts";

/** How long an answer waits for billing, in milliseconds. */
const timeoutMs = 2_000;

/** Prices in force: nano-units for one GPU and hour, by SKU, and their currency. */
export interface Prices {
  readonly currency: string;
  readonly hourlyNanos: ReadonlyMap<string, bigint>;
}

/** What billing says. */
export interface Funds {
  readonly prices: Prices;
  readonly availableNanos: bigint;
}

/** The price list by SKU, asked for by the scheduler itself. Throws a Fault where billing does not answer. */
export async function readPrices(billing: Scheduler["billing"]): Promise<Prices["hourlyNanos"]> {
  const { prices } = await billing.listPrices({}, { timeoutMs, waitForReady: false });
  return hourlyBySku(prices);
}

/** What an organisation has left, in nano-units, asked for by the scheduler itself. Throws a Fault where billing does not answer. */
export async function readAvailable(billing: Scheduler["billing"], org: OrgId): Promise<bigint> {
  const name = `organizations/${org}/balance`;
  const { available } = await billing.getBalance({ name }, { timeoutMs, waitForReady: false });
  return available?.nanos ?? 0n;
}

const hourlyBySku = (prices: readonly Price[]): ReadonlyMap<string, bigint> =>
  new Map(prices.map(({ sku, perHour }) => [sku, perHour?.nanos ?? 0n]));

/** Reads the price book and the account of the caller's organisation. Throws a Fault where billing does not answer. */
export async function readFunds(s: Scheduler, org: string, context: CallContext): Promise<Funds> {
  const options = { parent: context, timeoutMs, waitForReady: false };
  const [balance, book] = await Promise.all([
    s.billing.getBalance({ name: `organizations/${org}/balance` }, options),
    s.billing.listPrices({}, options),
  ]);
  const hourlyNanos = hourlyBySku(book.prices);
  const currency = balance.available?.currency ?? book.prices[0]?.perHour?.currency ?? "USD";
  return { prices: { currency, hourlyNanos }, availableNanos: balance.available?.nanos ?? 0n };
}

/** The GPUs as items with prices; undefined where one has none. */
export function pricedItems(
  gpus: readonly Pick<StoredGpu, "model" | "simulated">[],
  prices: Prices,
): readonly PricedItem[] | undefined {
  const items: PricedItem[] = [];
  for (const gpu of gpus) {
    const hourlyNanos = prices.hourlyNanos.get(skuOf(gpu));
    if (hourlyNanos === undefined) return undefined;
    items.push({ hourlyNanos, quantity: 1 });
  }
  return items;
}

/** What is missing for the hold of these GPUs; undefined where there is enough, or no price. */
export function shortfallOf(
  s: Scheduler,
  of: { gpus: readonly StoredGpu[] | undefined; stopGraceMs: number; funds: Funds },
): Shortfall | undefined {
  const { prices, availableNanos } = of.funds;
  const items = pricedItems(of.gpus ?? [], prices);
  if (items === undefined || items.length === 0) return undefined;
  const neededNanos = leastHoldNanos(items, of.stopGraceMs, s.config);
  if (neededNanos <= availableNanos) return undefined;
  return { currency: prices.currency, neededNanos, availableNanos };
}

/** Where the most that a task may cost does not even cover its first lease on these GPUs. */
export function maxCostTooSmall(
  s: Scheduler,
  of: {
    gpus: readonly StoredGpu[] | undefined;
    stopGraceMs: number;
    maxCostNanos: bigint | undefined;
    prices: Prices;
  },
): MaxCostTooSmall | undefined {
  const { maxCostNanos, prices } = of;
  const items = pricedItems(of.gpus ?? [], prices);
  if (maxCostNanos === undefined || items === undefined || items.length === 0) return undefined;
  const neededNanos = leastHoldNanos(items, of.stopGraceMs, s.config);
  if (neededNanos <= maxCostNanos) return undefined;
  return { currency: prices.currency, neededNanos, maxCostNanos };
}

/** What the hold before a lease on these needs at least, in nano-units. */
export function leastHoldNanos(
  items: readonly PricedItem[],
  stopGraceMs: number,
  times: FundingTimes,
): bigint {
  return coverNanos(items, endingMs(stopGraceMs, times) + times.leaseTtlMs);
}
