/** Bounds by slot with the best of each group of eight, of eight groups, and so on. */

const fanBits = 3;

/** Children of a tree node. */
export const fan: number = 1 << fanBits;

/** An order below all others. */
export const lastOrder: number = -(2 ** 31);

/** One level of the tree. */
interface TreeLevel {
  readonly value: Float64Array;
  /** Decides among equal values: greater is better. */
  readonly order: Int32Array;
}

/**
 * A tree of best (value, order) pairs over a fixed number of slots; all values are -Infinity
 * at first. Wide nodes: a change touches few cache lines, and mostly ends at the first level.
 */
export class BoundTree {
  /** levels[0] holds the slots; levels[k] at i the best of levels[k - 1] at 8 i … 8 i + 7. */
  readonly levels: readonly TreeLevel[];

  private readonly root: TreeLevel;

  constructor(size: number) {
    const levels: TreeLevel[] = [];
    for (let length = Math.max(1, size); ; length = (length + fan - 1) >> fanBits) {
      const value = new Float64Array(length).fill(Number.NEGATIVE_INFINITY);
      levels.push({ value, order: new Int32Array(length).fill(lastOrder) });
      if (length === 1) break;
    }
    this.levels = levels;
    this.root = levels.at(-1)!;
  }

  /** The best value. */
  get max(): number {
    return this.root.value[0]!;
  }

  /** Sets one slot's pair. */
  set(slot: number, newValue: number, newOrder: number): void {
    const { levels } = this;
    let at = slot;
    let value = newValue;
    let order = newOrder;
    for (let level = 0; ; level++) {
      const row = levels[level]!;
      const oldValue = row.value[at]!;
      const oldOrder = row.order[at]!;
      if (oldValue === value && oldOrder === order) return;
      row.value[at] = value;
      row.order[at] = order;
      if (level + 1 === levels.length) return;
      const parent = at >> fanBits;
      const above = levels[level + 1]!;
      const best = above.value[parent]!;
      const bestOrder = above.order[parent]!;
      if (value < best || (value === best && order < bestOrder)) {
        // Only a child that was the best can lower its parent.
        if (oldValue !== best || oldOrder !== bestOrder) return;
        const child = bestChild(row, parent);
        value = row.value[child]!;
        order = row.order[child]!;
      }
      at = parent;
    }
  }

  /** A slot with the best pair. */
  top(): number {
    let at = 0;
    for (let level = this.levels.length - 2; level >= 0; level--) {
      const { value, order } = this.levels[level]!;
      const above = this.levels[level + 1]!;
      const best = above.value[at]!;
      const bestOrder = above.order[at]!;
      at <<= fanBits;
      while (value[at] !== best || order[at] !== bestOrder) at++;
    }
    return at;
  }
}

function bestChild({ value, order }: TreeLevel, group: number): number {
  const start = group << fanBits;
  const end = Math.min(start + fan, value.length);
  let best = start;
  for (let at = start + 1; at < end; at++) {
    if (value[at]! < value[best]!) continue;
    if (value[at]! > value[best]! || order[at]! > order[best]!) best = at;
  }
  return best;
}
