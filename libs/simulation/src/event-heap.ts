/** An event as it comes out of the heap. */
export interface Scheduled<Event> {
  readonly atMs: number;
  readonly event: Event;
}

/** Handle of an event, for taking it back. */
export type EventHandle = number;

interface Entry<Event> extends Scheduled<Event> {
  readonly sequence: number;
}

/**
 * Events by time; those of one time in the order in which they were added, so that a run never depends on how the
 * heap happens to be laid out.
 */
export class EventHeap<Event> {
  private readonly entries: Entry<Event>[] = [];
  private readonly cancelled = new Set<EventHandle>();
  private nextSequence = 0;

  /** Number of events to come. */
  get size(): number {
    return this.entries.length - this.cancelled.size;
  }

  add(atMs: number, event: Event): EventHandle {
    if (Number.isNaN(atMs)) throw new RangeError("an event needs a time");
    const entry = { atMs, event, sequence: this.nextSequence++ };
    const { entries } = this;
    let at = entries.length;
    entries.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = entries[parent]!;
      if (!before(entry, above)) break;
      entries[at] = above;
      at = parent;
    }
    entries[at] = entry;
    return entry.sequence;
  }

  /** Takes back an event that has not come out yet. */
  cancel(handle: EventHandle): void {
    this.cancelled.add(handle);
  }

  /** Time of the next event; Infinity where there is none. */
  nextMs(): number {
    this.skipCancelled();
    return this.entries[0]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  /** Takes the next event out. */
  pop(): Scheduled<Event> | undefined {
    this.skipCancelled();
    return this.entries.length === 0 ? undefined : this.take();
  }

  private skipCancelled(): void {
    for (;;) {
      const first = this.entries[0];
      if (first === undefined || !this.cancelled.delete(first.sequence)) return;
      this.take();
    }
  }

  private take(): Entry<Event> {
    const { entries } = this;
    const first = entries[0]!;
    const last = entries.pop()!;
    if (entries.length > 0) sink(entries, last);
    return first;
  }
}

function before(a: Entry<unknown>, b: Entry<unknown>): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.sequence < b.sequence);
}

function sink<Event>(entries: Entry<Event>[], entry: Entry<Event>): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= entries.length) break;
    if (child + 1 < entries.length && before(entries[child + 1]!, entries[child]!)) child++;
    const below = entries[child]!;
    if (!before(below, entry)) break;
    entries[at] = below;
    at = child;
  }
  entries[at] = entry;
}
