/** Values by index with the greatest of each group of eight, of eight groups, and so on. */

const fanBits = 3;
const fan = 1 << fanBits;

/**
 * A tree of maxima over a fixed number of values, all -Infinity at first. Wide nodes: a change
 * touches few cache lines, and mostly ends at the first level.
 */
export class MaxTree {
  /** levels[0] holds the values; levels[k][i] the greatest of levels[k - 1][8 i … 8 i + 7]. */
  readonly levels: readonly Float64Array[];

  constructor(size: number) {
    const levels = [new Float64Array(Math.max(1, size))];
    while (levels.at(-1)!.length > 1) {
      levels.push(new Float64Array((levels.at(-1)!.length + fan - 1) >> fanBits));
    }
    for (const level of levels) level.fill(Number.NEGATIVE_INFINITY);
    this.levels = levels;
  }

  /** How many values there are. */
  get size(): number {
    return this.levels[0]!.length;
  }

  /** The greatest value. */
  get max(): number {
    return this.levels.at(-1)![0]!;
  }

  /** Sets one value. */
  set(index: number, value: number): void {
    let at = index;
    let next = value;
    for (let level = 0; ; level++) {
      const row = this.levels[level]!;
      const old = row[at]!;
      if (old === next) return;
      row[at] = next;
      if (level + 1 === this.levels.length) return;
      const parent = at >> fanBits;
      const known = this.levels[level + 1]![parent]!;
      if (next < known) {
        // Only a child that was the greatest can lower its parent.
        if (old < known) return;
        next = greatest(row, parent);
      }
      at = parent;
    }
  }

  /** The index of a greatest value. */
  top(): number {
    let at = 0;
    for (let level = this.levels.length - 2; level >= 0; level--) {
      const row = this.levels[level]!;
      const wanted = this.levels[level + 1]![at]!;
      at <<= fanBits;
      while (row[at] !== wanted) at++;
    }
    return at;
  }
}

function greatest(row: Float64Array, group: number): number {
  const start = group << fanBits;
  const end = Math.min(start + fan, row.length);
  let max = row[start]!;
  for (let at = start + 1; at < end; at++) if (row[at]! > max) max = row[at]!;
  return max;
}
