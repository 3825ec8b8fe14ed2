/** What {@link Tiers} needs to know of a group. */
interface TierGroup {
  readonly leaf: number;
  readonly priority: number;
  readonly heap: { readonly size: number };
}

/**
 * Groups in the order in which they may enter a walk. Within a queue the groups of the highest priority come first;
 * those of the next one enter when all of these are done with (started, or without room). Between queues priority
 * says nothing, so that nobody gets more than the queue's share by asking for priority.
 */
export class Tiers {
  private readonly waiting = new Map<number, number[][]>();
  private readonly open = new Map<number, number>();
  private readonly keyOf: (at: number) => number;

  /** With `within` false all groups are of one tier. */
  constructor(groups: readonly TierGroup[], within: boolean) {
    this.keyOf = (at) => (within ? groups[at]!.leaf : -1);
    const byKey = new Map<number, number[]>();
    for (const [at, group] of groups.entries()) {
      if (group.heap.size === 0) continue;
      const list = byKey.get(this.keyOf(at));
      if (list === undefined) byKey.set(this.keyOf(at), [at]);
      else list.push(at);
    }
    for (const [key, list] of byKey) {
      const tiers = Map.groupBy(list, (at) => (within ? groups[at]!.priority : 0));
      this.waiting.set(
        key,
        [...tiers].toSorted(([a], [b]) => a - b).map(([, members]) => members),
      );
    }
  }

  /** The groups that enter at the beginning. */
  *first(): Generator<number> {
    for (const key of this.waiting.keys()) yield* this.next(key);
  }

  /** A group is done with: answers the groups that enter now. */
  done(at: number): readonly number[] {
    const key = this.keyOf(at);
    const open = (this.open.get(key) ?? 0) - 1;
    this.open.set(key, open);
    return open === 0 ? this.next(key) : [];
  }

  private next(key: number): readonly number[] {
    const tier = this.waiting.get(key)?.pop() ?? [];
    this.open.set(key, tier.length);
    return tier;
  }
}
