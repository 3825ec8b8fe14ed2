/** Indices first … last, both included. */
export interface IndexRange {
  readonly first: number;
  readonly last: number;
}

/**
 * A set of array indices as sorted, disjoint, non-adjacent ranges: a million elements are one row.
 * The same value is a Postgres `int4multirange`.
 */
export type IndexSet = readonly IndexRange[];

/** The set of all given ranges, which may overlap and come in any order. */
export function indexSet(ranges: Iterable<IndexRange>): IndexSet {
  const sorted = [...ranges].toSorted((a, b) => a.first - b.first);
  const result: { first: number; last: number }[] = [];
  for (const { first, last } of sorted) {
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last) || last < first || first < 0) {
      throw new RangeError(`${first}…${last} is not a range of indices`);
    }
    const open = result.at(-1);
    if (open !== undefined && first <= open.last + 1) open.last = Math.max(open.last, last);
    else result.push({ first, last });
  }
  return result;
}

/** Number of indices in the set. */
export function countIndices(set: IndexSet): number {
  return set.reduce((sum, range) => sum + range.last - range.first + 1, 0);
}

/** The `count` lowest indices of the set, or all where it has fewer. */
export function takeIndices(set: IndexSet, count: number): IndexSet {
  const taken: IndexRange[] = [];
  let left = count;
  for (const { first, last } of set) {
    if (left <= 0) break;
    const end = Math.min(last, first + left - 1);
    taken.push({ first, last: end });
    left -= end - first + 1;
  }
  return taken;
}

/** Indices of `a` that are not in `b`. */
export function subtractIndices(a: IndexSet, b: IndexSet): IndexSet {
  const result: IndexRange[] = [];
  let j = 0;
  for (const range of a) {
    let { first } = range;
    while (j < b.length && (b[j]?.last ?? 0) < first) j += 1;
    for (let k = j; k < b.length && first <= range.last; k += 1) {
      const cut = b[k];
      if (cut === undefined || cut.first > range.last) break;
      if (cut.first > first) result.push({ first, last: cut.first - 1 });
      first = Math.max(first, cut.last + 1);
    }
    if (first <= range.last) result.push({ first, last: range.last });
  }
  return result;
}

/** Indices of either set. */
export function unionIndices(a: IndexSet, b: IndexSet): IndexSet {
  return indexSet([...a, ...b]);
}

/** The set as Postgres writes an int4multirange: `{[0,10),[12,13)}`. */
export function formatMultirange(set: IndexSet): string {
  return `{${set.map(({ first, last }) => `[${first},${last + 1})`).join(",")}}`;
}

/** The set of an int4multirange in Postgres' canonical text. */
export function parseMultirange(text: string): IndexSet {
  const ranges: IndexRange[] = [];
  for (const match of text.matchAll(/\[(\d+),(\d+)\)/g)) {
    ranges.push({ first: Number(match[1]), last: Number(match[2]) - 1 });
  }
  return ranges;
}
