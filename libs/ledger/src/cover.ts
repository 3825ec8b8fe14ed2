import { msPerHour, segmentAmountNanos } from "@fastgpu/domain/money";

/** Logical GPUs of one price within an attempt. */
export interface PricedItem {
  /** Price of one for an hour, nano-units, ≥ 0. */
  readonly hourlyNanos: bigint;
  /** How many, ≥ 1. */
  readonly quantity: number;
}

/** What all items cost from the billing start until `ms` later: Σ quantity · ⌊price · ms / 3,600,000⌋. */
export function coverNanos(items: readonly PricedItem[], ms: number): bigint {
  let total = 0n;
  for (const item of items) {
    total += BigInt(item.quantity) * segmentAmountNanos(item.hourlyNanos, 0, ms);
  }
  return total;
}

/**
 * The longest time, up to `capMs`, that `nanos` cover: the greatest ms with coverNanos(items, ms) ≤ nanos.
 * `nanos` < 0 covers nothing.
 */
export function coveredMs(items: readonly PricedItem[], nanos: bigint, capMs: number): number {
  if (nanos < 0n) return 0;
  if (coverNanos(items, capMs) <= nanos) return capMs;
  let hourly = 0n;
  let count = 0n;
  for (const item of items) {
    hourly += item.hourlyNanos * BigInt(item.quantity);
    count += BigInt(item.quantity);
  }
  // Each unit is rounded down by less than one nano: the answer lies between these two.
  let low = Number((nanos * msPerHour) / hourly);
  let high = Math.min(capMs, Number(((nanos + count) * msPerHour) / hourly) + 1);
  while (low < high) {
    const middle = low + Math.ceil((high - low) / 2);
    if (coverNanos(items, middle) <= nanos) low = middle;
    else high = middle - 1;
  }
  return low;
}
