import { newId } from "@fastgpu/domain/ids";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ByteSource } from "./bytes.ts";
import { packId, unpackId } from "./pack-id.ts";
import { ValueReader, ValueWriter } from "./value.ts";

const idArbitrary = fc
  .tuple(fc.nat({ max: 2 ** 40 }), fc.uint8Array({ minLength: 10, maxLength: 10 }))
  .map(([nowMs, random]) => newId("task", nowMs, random));

const leaf = fc.oneof(
  fc.constantFrom(undefined, null, true, false, 0, -0, Number.NaN, Number.POSITIVE_INFINITY),
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double(),
  fc.constantFrom("", "a", "b", "__proto__", "\ud800", "Grüße, 世界"),
  fc.string({ unit: "binary", maxLength: 6 }),
  idArbitrary,
);

const { value: valueArbitrary } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(fc.constantFrom("a", "b", "c", "__proto__"), tie("value"), { maxKeys: 4 }),
    fc
      .array(fc.tuple(fc.constantFrom("x", "y"), tie("value")), { maxLength: 2 })
      .map((entries) => new Map(entries)),
  ),
}));

/** What is the same in every bit, key order and prototype apart, is written alike here. */
function exactly(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  if (typeof value !== "object" || value === null) return `${typeof value} ${String(value)}`;
  if (value instanceof Map) {
    return `map ${exactly([...value].flat())}`;
  }
  if (Array.isArray(value)) return `[${value.map(exactly).join()}]`;
  const fields = Object.entries(value).map(([key, of]) => `${JSON.stringify(key)}:${exactly(of)}`);
  return `{${fields.join()}}`;
}

function roundtrip(values: readonly (readonly [value: unknown, base: unknown])[]): unknown[] {
  const writer = new ValueWriter();
  for (const [value, base] of values) writer.write(value, base);
  const source = new ByteSource(writer.sink.take());
  const reader = new ValueReader();
  const read = values.map(([, base]) => reader.read(source, base));
  expect(source.done).toBe(true);
  return read;
}

test("every plain value comes back to the last bit, whatever it is told by", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(valueArbitrary, valueArbitrary), { minLength: 1, maxLength: 4 }),
      (values) => {
        const read = roundtrip(values);
        expect(read.map(exactly)).toEqual(values.map(([value]) => exactly(value)));
      },
    ),
    { numRuns: 1_000 },
  );
});

test("every value comes back from a base that differs in a part of it", () => {
  const changed = fc
    .array(fc.record({ a: leaf, b: fc.array(leaf, { maxLength: 4 }), c: leaf }), { maxLength: 6 })
    .chain((base) =>
      fc
        .tuple(fc.array(fc.nat({ max: 6 }), { maxLength: 3 }), leaf, fc.boolean())
        .map(([at, value, grows]) => {
          const next = base.map((item, index) =>
            at.includes(index) ? { ...item, b: [...item.b, value] } : item,
          );
          return [grows ? [...next, ...base.slice(0, 1)] : next, base] as const;
        }),
    );
  fc.assert(
    fc.property(changed, ([value, base]) => {
      expect(exactly(roundtrip([[value, base]])[0])).toBe(exactly(value));
    }),
    { numRuns: 1_000 },
  );
});

test("more texts and shapes than are kept at once are all read", () => {
  const values = Array.from(
    { length: 20_000 },
    (_, at) => [{ [`k${at}`]: `v${at % 17_000}` }, undefined] as const,
  );
  expect(roundtrip(values)).toEqual(values.map(([value]) => value));
});

test("ids are packed into their bits, and nothing else is", () => {
  fc.assert(
    fc.property(idArbitrary, (id) => {
      const packed = packId(id);
      expect(packed === undefined ? "" : unpackId(packed.prefix, packed.bytes)).toBe(id);
    }),
  );
  // A first letter above 7 would need more than 128 bits; letters outside the alphabet are no ids.
  expect(packId(`task-8${"0".repeat(25)}`)).toBeUndefined();
  expect(packId(`task-0${"u".repeat(25)}`)).toBeUndefined();
});

test("what is no plain data is refused", () => {
  const writer = new ValueWriter();
  expect(() => writer.write(() => 1)).toThrow("a function cannot be recorded");
  expect(() => writer.write(new Set([1]))).toThrow("only plain objects");
});

test("damaged bytes are refused or read as other values, but never hang or crash otherwise", () => {
  const value = [{ a: 1, b: ["x", "y"], c: new Map([["k", 2]]) }];
  const writer = new ValueWriter();
  writer.write(value);
  const bytes = writer.sink.take();
  fc.assert(
    fc.property(fc.nat({ max: bytes.length - 1 }), fc.nat({ max: 255 }), (at, byte) => {
      const damaged = bytes.with(at, byte);
      try {
        new ValueReader().read(new ByteSource(damaged));
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
    { numRuns: 500 },
  );
});
