import type { ByteSource } from "./bytes.ts";
import type { ValueReader, ValueWriter } from "./value.ts";

/** What lists are told by: things with an id, of which an unchanged one is the same object. */
export interface Identified {
  readonly id: string;
}

/** How a list came from the one before: a pointer goes through the old list while the new one is built. */
const ops = { end: 0, keep: 1, change: 2, drop: 3, append: 4, moved: 5 } as const;

/** Whether a value is a list that can be told by the ids of its items. */
export function isIdentified(value: unknown): value is readonly Identified[] {
  return Array.isArray(value) && value.every(hasId);
}

function hasId(item: unknown): item is Identified {
  return typeof item === "object" && item !== null && "id" in item && typeof item.id === "string";
}

/**
 * Writes lists by what has changed since the last. Which object is a new one is kept as well as what it says: a planner
 * that takes a new object for a change meets the same changes in a replay.
 */
export class ListWriter {
  private readonly values: ValueWriter;
  private before: readonly Identified[] = [];
  /** Ids of `before`. */
  private readonly ids = new Set<string>();
  /** Where what was dropped from `before` in this list stood there. */
  private readonly dropped = new Map<string, number>();
  private last: unknown;
  private run = 0;

  constructor(values: ValueWriter) {
    this.values = values;
  }

  write(next: readonly Identified[]): void {
    const { before } = this;
    let at = 0;
    for (const item of next) {
      if (before[at]?.id !== item.id && this.ids.has(item.id)) {
        const ahead = indexFrom(before, at, item.id);
        if (ahead >= 0) {
          this.drop(at, ahead);
          at = ahead;
        }
      }
      const old = before[at];
      if (old === item) {
        this.run += 1;
        at += 1;
      } else if (old?.id === item.id) {
        this.op(ops.change);
        this.value(item, old);
        at += 1;
      } else this.append(item);
    }
    this.drop(at, before.length);
    this.op(ops.end);
    this.dropped.clear();
    this.before = next;
  }

  private append(item: Identified): void {
    const from = this.dropped.get(item.id);
    this.ids.add(item.id);
    if (from !== undefined && this.before[from] === item) {
      this.op(ops.moved);
      return this.values.sink.varint(from);
    }
    this.op(ops.append);
    this.value(item, this.last);
    this.last = item;
  }

  private value(item: Identified, base: unknown): void {
    this.values.write(item, base);
  }

  private drop(from: number, to: number): void {
    if (from >= to) return;
    this.op(ops.drop);
    this.values.sink.varint(to - from);
    for (let at = from; at < to; at += 1) {
      const id = this.before[at]?.id;
      if (id === undefined) continue;
      this.ids.delete(id);
      this.dropped.set(id, at);
    }
  }

  /** Items that were kept come before whatever else happens. */
  private op(op: number): void {
    const { sink } = this.values;
    if (this.run > 0) {
      sink.byte(ops.keep);
      sink.varint(this.run);
      this.run = 0;
    }
    sink.byte(op);
  }
}

function indexFrom(list: readonly Identified[], start: number, id: string): number {
  for (let at = start; at < list.length; at += 1) if (list[at]?.id === id) return at;
  return -1;
}

/** Reads what a {@link ListWriter} wrote: the same lists, new objects where it had new objects. */
export class ListReader {
  private readonly values: ValueReader;
  private before: readonly Identified[] = [];
  private last: unknown;

  constructor(values: ValueReader) {
    this.values = values;
  }

  read(source: ByteSource): readonly Identified[] {
    const { before } = this;
    const next: Identified[] = [];
    let at = 0;
    const old = (index: number): Identified => {
      const item = before[index];
      if (item === undefined) throw new RangeError("the recording names an item that is not there");
      return item;
    };
    for (;;) {
      const op = source.byte();
      if (op === ops.end) break;
      if (op === ops.keep) {
        for (let left = source.varint(); left > 0; left -= 1) next.push(old(at++));
      } else if (op === ops.drop) at += source.varint();
      else if (op === ops.moved) next.push(old(source.varint()));
      else if (op === ops.change) next.push(this.item(source, old(at++)));
      else if (op === ops.append) {
        const item = this.item(source, this.last);
        this.last = item;
        next.push(item);
      } else throw new RangeError(`the recording has an unknown step ${op}`);
    }
    this.before = next;
    return next;
  }

  private item(source: ByteSource, base: unknown): Identified {
    const value = this.values.read(source, base);
    if (!hasId(value)) throw new RangeError("the recording has an item without an id");
    return value === base ? { ...value } : value;
  }
}
