/** Bounds by slot with the best of each group of eight, of eight groups, and so on. */

const fanBits = 3;

/** Children of a tree node. */
export const fan: number = 1 << fanBits;

/** An order below all others. */
export const lastOrder: number = -(2 ** 31);

const never = Number.NEGATIVE_INFINITY;

/** One level of the tree. */
export interface TreeLevel {
  readonly value: Float64Array;
  /** Decides among equal values: greater is better. */
  readonly order: Int32Array;
}

/**
 * A tree of best (value, order) pairs over a fixed number of slots; all values are -Infinity
 * at first. Wide nodes: a change touches few cache lines. What stands above a pair that fell is
 * left as it is, and lowered only once a search comes by: most never are.
 */
export class BoundTree {
  /** levels[0] holds the slots; levels[k] at i no less than any of levels[k - 1] at 8 i … 8 i + 7. */
  readonly levels: readonly TreeLevel[];
  /** The slots' own level. */
  readonly slots: TreeLevel;

  constructor(size: number) {
    const levels: TreeLevel[] = [];
    for (let length = Math.max(1, size); ; length = (length + fan - 1) >> fanBits) {
      const value = new Float64Array(length).fill(never);
      levels.push({ value, order: new Int32Array(length).fill(lastOrder) });
      if (length === 1) break;
    }
    this.levels = levels;
    this.slots = levels[0]!;
  }

  /** Sets one slot's pair. */
  set(slot: number, value: number, order: number): void {
    const { levels } = this;
    let at = slot;
    let row = this.slots;
    for (let level = 1; ; level++) {
      row.value[at] = value;
      row.order[at] = order;
      if (level === levels.length) return;
      row = levels[level]!;
      at >>= fanBits;
      const known = row.value[at]!;
      if (value < known || (value === known && order <= row.order[at]!)) return;
    }
  }

  /** A slot with the best pair; -1 where all are -Infinity. */
  top(): number {
    const { levels } = this;
    let at = 0;
    let level = levels.length - 1;
    while (level > 0) {
      const below = levels[level - 1]!;
      const child = bestChild(below, at);
      const { value, order } = levels[level]!;
      if (value[at] === below.value[child] && order[at] === below.order[child]) {
        level--;
        at = child;
        continue;
      }
      value[at] = below.value[child]!;
      order[at] = below.order[child]!;
      if (level + 1 < levels.length) {
        level++;
        at >>= fanBits;
      }
    }
    return this.slots.value[at] === never ? -1 : at;
  }

  /** Lowers one node to its best child; false where it stood there. */
  lower(level: number, at: number): boolean {
    const { value, order } = this.levels[level]!;
    const below = this.levels[level - 1]!;
    const child = bestChild(below, at);
    if (value[at] === below.value[child] && order[at] === below.order[child]) return false;
    value[at] = below.value[child]!;
    order[at] = below.order[child]!;
    return true;
  }
}

function bestChild({ value, order }: TreeLevel, group: number): number {
  const start = group << fanBits;
  const end = Math.min(start + fan, value.length);
  let best = start;
  let most = value[start]!;
  for (let at = start + 1; at < end; at++) {
    const other = value[at]!;
    if (other > most || (other === most && order[at]! > order[best]!)) {
      best = at;
      most = other;
    }
  }
  return best;
}
