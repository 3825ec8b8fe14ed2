/** Nano-units in one unit of currency (1 USD = 10⁹ nano-USD). */
export const nanosPerUnit = 1_000_000_000n;

/** Milliseconds in the hour that prices are stated for. */
export const msPerHour = 3_600_000n;

/**
 * The amount of the segment [fromMs, toMs), both in milliseconds since the attempt's billing start, at an hourly price:
 * ⌊P·b / 3,600,000⌋ − ⌊P·a / 3,600,000⌋. Splits telescope exactly, whatever their order. Never a float.
 */
export function segmentAmountNanos(hourlyNanos: bigint, fromMs: number, toMs: number): bigint {
  if (!Number.isSafeInteger(fromMs) || !Number.isSafeInteger(toMs) || fromMs < 0 || toMs < fromMs) {
    throw new RangeError(`segment [${fromMs}, ${toMs}) is not one`);
  }
  if (hourlyNanos < 0n) throw new RangeError("a price is never negative");
  return (hourlyNanos * BigInt(toMs)) / msPerHour - (hourlyNanos * BigInt(fromMs)) / msPerHour;
}

/** Whole milliseconds that `nanos` buy at an hourly price, counted from `fromMs`; Infinity where the price is zero.
 * At most Number.MAX_SAFE_INTEGER in all. */
export function affordableMs(hourlyNanos: bigint, nanos: bigint, fromMs: number): number {
  if (hourlyNanos === 0n) return Number.POSITIVE_INFINITY;
  const base = (hourlyNanos * BigInt(fromMs)) / msPerHour;
  const limit = ((base + nanos + 1n) * msPerHour - 1n) / hourlyNanos;
  const ceiling = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(limit > ceiling ? ceiling : limit) - fromMs;
}

/** `12.345678901` for nano-units, without trailing zeros beyond two decimals. */
export function formatNanos(nanos: bigint): string {
  const sign = nanos < 0n ? "-" : "";
  const abs = nanos < 0n ? -nanos : nanos;
  const fraction = (abs % nanosPerUnit)
    .toString()
    .padStart(9, "0")
    .replace(/0{1,7}$/, "");
  return `${sign}${abs / nanosPerUnit}.${fraction}`;
}
