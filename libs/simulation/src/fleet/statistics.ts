/** A set of waits in milliseconds, summed up. */
export interface Distribution {
  readonly count: number;
  readonly meanMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly longestMs: number;
}

/** Sums values up; all zero where there are none. Percentiles by nearest rank. */
export function distribution(values: readonly number[]): Distribution {
  const sorted = Float64Array.from(values).sort();
  const rank = (part: number): number =>
    sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0;
  return {
    count: sorted.length,
    meanMs: mean(values),
    p50Ms: rank(0.5),
    p99Ms: rank(0.99),
    longestMs: sorted.at(-1) ?? 0,
  };
}

/** The mean; 0 of nothing. */
export function mean(values: readonly number[]): number {
  if (values.length === 0) return 0;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/**
 * What each is due of a capacity: as much as it wants, else its part by weight of what the others leave (weighted
 * max-min fairness by water-filling).
 */
export function fairShares(
  wants: readonly { readonly wanted: number; readonly weight: number }[],
  capacity: number,
): readonly number[] {
  const shares = wants.map(() => 0);
  const open = [...wants.keys()].toSorted(
    (a, b) => wants[a]!.wanted / wants[a]!.weight - wants[b]!.wanted / wants[b]!.weight,
  );
  let left = capacity;
  let weight = wants.reduce((sum, want) => sum + want.weight, 0);
  for (const at of open) {
    const want = wants[at]!;
    shares[at] = Math.min(want.wanted, weight > 0 ? (left * want.weight) / weight : 0);
    left -= shares[at];
    weight -= want.weight;
  }
  return shares;
}

/** Jain, Chiu and Hawe, "A quantitative measure of fairness", DEC-TR-301, 1984; 1: all alike. */
export function jain(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}
