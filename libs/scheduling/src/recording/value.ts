import { ByteSink, ByteSource } from "./bytes.ts";
import { packId, unpackId } from "./pack-id.ts";
import { same, shapeOf } from "./same.ts";

/**
 * Plain data as bytes, each value told by how it differs from one that both sides know. It follows the data, not a
 * list of fields: what the planner is given tomorrow is recorded without a change here. Numbers keep every bit, keys
 * their order, and `undefined` differs from a missing key, so that what is read back plans the same.
 */
const tags = {
  undefined: 0,
  null: 1,
  false: 2,
  true: 3,
  whole: 4,
  negative: 5,
  double: 6,
  newText: 7,
  knownText: 8,
  id: 9,
  array: 10,
  object: 11,
  newObject: 12,
  map: 13,
  same: 14,
  more: 15,
  less: 16,
  changedObject: 17,
  changedArray: 18,
  splicedArray: 19,
} as const;
/** Tags from here on are the whole numbers 0, 1, 2 … themselves. */
const firstSmall = 64;

/** Texts and shapes that are known at once; all are forgotten when there are more, on both sides. */
const greatestTable = 16_384;

/** Writes values. One writer and one reader go through the same values in the same order. */
export class ValueWriter {
  readonly sink = new ByteSink();
  private readonly texts = new Map<string, number>();
  private readonly shapes = new Map<string, number>();

  /** Writes a value, told by its difference from `base`. Throws TypeError for what is no plain data. */
  write(value: unknown, base?: unknown): void {
    const { sink } = this;
    if (value === undefined) return sink.byte(tags.undefined);
    if (value === null) return sink.byte(tags.null);
    switch (typeof value) {
      case "boolean":
        return sink.byte(value ? tags.true : tags.false);
      case "number":
        return this.number(value, base);
      case "string":
        return value === base ? sink.byte(tags.same) : this.text(value);
      case "object":
        return this.object(value, base);
      default:
        throw new TypeError(`a ${typeof value} cannot be recorded`);
    }
  }

  private number(value: number, base: unknown): void {
    const { sink } = this;
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
      if (Object.is(value, base)) return sink.byte(tags.same);
      sink.byte(tags.double);
      return sink.double(value);
    }
    if (value >= 0 && value < 256 - firstSmall) return sink.byte(firstSmall + value);
    if (typeof base === "number" && Number.isSafeInteger(base)) {
      const more = value - base;
      if (more === 0) return sink.byte(tags.same);
      if (Number.isSafeInteger(more) && Math.abs(more) < Math.abs(value)) {
        sink.byte(more >= 0 ? tags.more : tags.less);
        return sink.varint(Math.abs(more));
      }
    }
    sink.byte(value >= 0 ? tags.whole : tags.negative);
    sink.varint(Math.abs(value));
  }

  private text(value: string): void {
    const { sink, texts } = this;
    const known = texts.get(value);
    if (known !== undefined) {
      sink.byte(tags.knownText);
      return sink.varint(known);
    }
    if (texts.size >= greatestTable) texts.clear();
    texts.set(value, texts.size);
    const packed = packId(value);
    if (packed === undefined) {
      sink.byte(tags.newText);
      return sink.text(value);
    }
    sink.byte(tags.id);
    sink.text(packed.prefix);
    sink.raw(packed.bytes);
  }

  private object(value: object, base: unknown): void {
    if (Array.isArray(value)) return this.array(value as readonly unknown[], base);
    if (value instanceof Map) {
      return same(value, base)
        ? this.sink.byte(tags.same)
        : this.map(value as ReadonlyMap<unknown, unknown>);
    }
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) {
      throw new TypeError("only plain objects, arrays and maps can be recorded");
    }
    this.fields(value as Readonly<Record<string, unknown>>, base);
  }

  private fields(value: Readonly<Record<string, unknown>>, base: unknown): void {
    const { sink } = this;
    const keys = Object.keys(value);
    const shape = shapeOf(keys);
    const before = plainObject(base);
    if (before !== undefined && shapeOf(Object.keys(before)) === shape) {
      const changed = keys.flatMap((key, at) => (same(value[key], before[key]) ? [] : [at]));
      if (changed.length === 0) return sink.byte(tags.same);
      sink.byte(tags.changedObject);
      return this.changes(changed, (at) => {
        const key = keys[at] ?? "";
        this.write(value[key], before[key]);
      });
    }
    const known = this.shapes.get(shape);
    if (known === undefined) {
      if (this.shapes.size >= greatestTable) this.shapes.clear();
      this.shapes.set(shape, this.shapes.size);
      sink.byte(tags.newObject);
      sink.varint(keys.length);
      for (const key of keys) this.text(key);
    } else {
      sink.byte(tags.object);
      sink.varint(known);
    }
    for (const key of keys) this.write(value[key]);
  }

  private array(value: readonly unknown[], base: unknown): void {
    const { sink } = this;
    if (Array.isArray(base) && base.length === value.length) {
      const before = base as readonly unknown[];
      const changed = value.flatMap((item, at) => (same(item, before[at]) ? [] : [at]));
      if (changed.length === 0) return sink.byte(tags.same);
      if (changed.length < value.length) {
        sink.byte(tags.changedArray);
        return this.changes(changed, (at) => this.write(value[at], before[at]));
      }
    }
    const { head, tail } = Array.isArray(base) ? kept(value, base) : nothingKept;
    if (head + tail > 0) {
      sink.byte(tags.splicedArray);
      sink.varint(head);
      sink.varint(tail);
    } else sink.byte(tags.array);
    const end = value.length - tail;
    sink.varint(end - head);
    // Neighbours are alike: each is told by its difference from the one before.
    for (let at = head; at < end; at += 1) this.write(value[at], value[at - 1]);
  }

  private map(value: ReadonlyMap<unknown, unknown>): void {
    this.sink.byte(tags.map);
    this.sink.varint(value.size);
    let before: unknown;
    for (const [key, item] of value) {
      this.write(key);
      this.write(item, before);
      before = item;
    }
  }

  private changes(changed: readonly number[], write: (at: number) => void): void {
    this.sink.varint(changed.length);
    let next = 0;
    for (const at of changed) {
      this.sink.varint(at - next);
      next = at + 1;
      write(at);
    }
  }
}

/** Reads what a {@link ValueWriter} wrote. Throws RangeError or TypeError for bytes that no writer makes. */
export class ValueReader {
  private readonly texts: string[] = [];
  private readonly shapes: (readonly string[])[] = [];

  /** Reads a value; `base` is what the writer was given for it. What has not changed is the base itself. */
  read(source: ByteSource, base?: unknown): unknown {
    const tag = source.byte();
    if (tag >= firstSmall) return tag - firstSmall;
    switch (tag) {
      case tags.undefined:
        return undefined;
      case tags.null:
        return null;
      case tags.false:
        return false;
      case tags.true:
        return true;
      case tags.whole:
        return source.varint();
      case tags.negative:
        return -source.varint();
      case tags.double:
        return source.double();
      case tags.same:
        return base;
      case tags.more:
        return numberOf(base) + source.varint();
      case tags.less:
        return numberOf(base) - source.varint();
      case tags.newText:
      case tags.id:
      case tags.knownText:
        return this.text(source, tag);
      default:
        return this.composite(source, tag, base);
    }
  }

  private text(source: ByteSource, tag: number): string {
    if (tag === tags.knownText) {
      const known = this.texts[source.varint()];
      if (known === undefined) throw new RangeError("the recording names an unknown text");
      return known;
    }
    const value = tag === tags.newText ? source.text() : unpackId(source.text(), source.raw(16));
    if (this.texts.length >= greatestTable) this.texts.length = 0;
    this.texts.push(value);
    return value;
  }

  private composite(source: ByteSource, tag: number, base: unknown): unknown {
    switch (tag) {
      case tags.array:
        return this.array(source, []);
      case tags.splicedArray: {
        const before = Array.isArray(base) ? (base as readonly unknown[]) : refuse("an array");
        const [head, tail] = [source.varint(), source.varint()];
        if (head + tail > before.length) refuse("a longer array");
        const items = this.array(source, before.slice(0, head));
        return [...items, ...before.slice(before.length - tail)];
      }
      case tags.map:
        return this.map(source);
      case tags.newObject: {
        const keys = this.keys(source);
        if (this.shapes.length >= greatestTable) this.shapes.length = 0;
        this.shapes.push(keys);
        return Object.fromEntries(keys.map((key) => [key, this.read(source)]));
      }
      case tags.object: {
        const keys = this.shapes[source.varint()];
        if (keys === undefined) throw new RangeError("the recording names an unknown shape");
        return Object.fromEntries(keys.map((key) => [key, this.read(source)]));
      }
      case tags.changedObject: {
        const entries = Object.entries(plainObject(base) ?? refuse("an object"));
        this.changes(source, (at) => {
          const entry = entries[at] ?? refuse("a field");
          entries[at] = [entry[0], this.read(source, entry[1])];
        });
        return Object.fromEntries(entries);
      }
      case tags.changedArray: {
        const items = Array.isArray(base) ? [...(base as readonly unknown[])] : refuse("an array");
        this.changes(source, (at) => {
          if (at >= items.length) refuse("an item");
          items[at] = this.read(source, items[at]);
        });
        return items;
      }
      default:
        throw new RangeError(`the recording has an unknown tag ${tag}`);
    }
  }

  private keys(source: ByteSource): string[] {
    return Array.from({ length: lengthOf(source) }, () => {
      const key = this.read(source);
      return typeof key === "string" ? key : refuse("a text");
    });
  }

  private array(source: ByteSource, items: unknown[]): unknown[] {
    for (let left = lengthOf(source); left > 0; left -= 1) {
      items.push(this.read(source, items.at(-1)));
    }
    return items;
  }

  private map(source: ByteSource): Map<unknown, unknown> {
    const map = new Map<unknown, unknown>();
    for (let left = lengthOf(source), before: unknown; left > 0; left -= 1) {
      const key = this.read(source);
      before = this.read(source, before);
      map.set(key, before);
    }
    return map;
  }

  private changes(source: ByteSource, change: (at: number) => void): void {
    let next = 0;
    for (let left = source.varint(); left > 0; left -= 1) {
      const at = next + source.varint();
      next = at + 1;
      change(at);
    }
  }
}

const nothingKept = { head: 0, tail: 0 };

/** How many items stand unchanged at both ends of an array. */
function kept(value: readonly unknown[], base: readonly unknown[]): typeof nothingKept {
  const shorter = Math.min(value.length, base.length);
  let head = 0;
  while (head < shorter && same(value[head], base[head])) head += 1;
  let tail = 0;
  while (tail < shorter - head && same(value.at(-1 - tail), base.at(-1 - tail))) tail += 1;
  return { head, tail };
}

/** Nothing recorded is longer; what claims to be is damaged. */
const greatestLength = 1 << 26;

function lengthOf(source: ByteSource): number {
  const length = source.varint();
  if (length > greatestLength) throw new RangeError("the recording claims too much at once");
  return length;
}

function plainObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Map)
    ? (value as Readonly<Record<string, unknown>>)
    : undefined;
}

function numberOf(value: unknown): number {
  return typeof value === "number" ? value : refuse("a number");
}

function refuse(expected: string): never {
  throw new RangeError(`the recording tells a change of ${expected} that is not there`);
}
