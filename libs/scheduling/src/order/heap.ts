/**
 * A binary heap of integers that knows where each item is, so that any item leaves in O(log n). The order is given by
 * the owner and must be total; places are kept in a column of the owner's (an item is in at most one heap per column).
 */
export class IntHeap {
  private readonly items: number[] = [];
  private readonly before: (a: number, b: number) => boolean;
  private readonly places: () => Int32Array;

  constructor(options: {
    readonly before: (a: number, b: number) => boolean;
    readonly places: () => Int32Array;
  }) {
    this.before = options.before;
    this.places = options.places;
  }

  get size(): number {
    return this.items.length;
  }

  /** The first item, or -1. */
  peek(): number {
    return this.items[0] ?? -1;
  }

  /** Whether an item is in this heap. */
  has(item: number): boolean {
    return this.items[this.places()[item]!] === item;
  }

  push(item: number): void {
    this.items.push(item);
    this.rise(item, this.items.length - 1);
  }

  /** Takes the first item out, or answers -1. */
  pop(): number {
    const first = this.peek();
    if (first >= 0) this.remove(first);
    return first;
  }

  /** Takes an item out that is in this heap. */
  remove(item: number): void {
    const at = this.places()[item]!;
    const last = this.items.pop()!;
    if (last === item) return;
    if (this.before(last, item)) this.rise(last, at);
    else this.sink(last, at);
  }

  private rise(item: number, from: number): void {
    const { items, before } = this;
    const places = this.places();
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = items[parent]!;
      if (!before(item, above)) break;
      items[at] = above;
      places[above] = at;
      at = parent;
    }
    items[at] = item;
    places[item] = at;
  }

  private sink(item: number, from: number): void {
    const { items, before } = this;
    const places = this.places();
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++;
      const below = items[child]!;
      if (!before(below, item)) break;
      items[at] = below;
      places[below] = at;
      at = child;
    }
    items[at] = item;
    places[item] = at;
  }
}
