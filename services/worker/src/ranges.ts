import type { IndexRanges } from "./runtime/port.ts";

/** Any indexes, in any order, as ascending disjoint half-open ranges. */
export function rangesOf(indexes: Iterable<number>): IndexRanges {
  const sorted = [...new Set(indexes)].toSorted((a, b) => a - b);
  const ranges: [number, number][] = [];
  for (const index of sorted) {
    const last = ranges.at(-1);
    if (last !== undefined && last[1] === index) last[1] = index + 1;
    else ranges.push([index, index + 1]);
  }
  return ranges;
}

/** Every index of the ranges, in order. */
export function indexesOf(ranges: IndexRanges): number[] {
  return ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));
}

/** How many indexes the ranges hold. */
export function countOf(ranges: IndexRanges): number {
  return ranges.reduce((sum, [start, end]) => sum + end - start, 0);
}

/** The indexes of `all` that are in none of `taken`. */
export function without(all: IndexRanges, taken: readonly IndexRanges[]): IndexRanges {
  const gone = new Set(taken.flatMap(indexesOf));
  return rangesOf(indexesOf(all).filter((index) => !gone.has(index)));
}
