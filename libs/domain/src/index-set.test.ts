import fc from "fast-check";
import { expect, test } from "vitest";
import {
  countIndices,
  formatMultirange,
  indexSet,
  parseMultirange,
  subtractIndices,
  takeIndices,
  unionIndices,
  type IndexSet,
} from "./index-set.ts";

const range = fc
  .tuple(fc.nat(200), fc.nat(20))
  .map(([first, more]) => ({ first, last: first + more }));
const sets = fc.array(range, { maxLength: 12 }).map(indexSet);

function members(set: IndexSet): number[] {
  return set.flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i),
  );
}

test("set operations agree with sets of numbers", () => {
  fc.assert(
    fc.property(sets, sets, fc.nat(80), (a, b, count) => {
      const right = new Set(members(b));
      expect(members(subtractIndices(a, b))).toEqual(members(a).filter((i) => !right.has(i)));
      expect(members(unionIndices(a, b))).toEqual(
        [...new Set([...members(a), ...members(b)])].toSorted((x, y) => x - y),
      );
      expect(members(takeIndices(a, count))).toEqual(members(a).slice(0, count));
      expect(countIndices(a)).toBe(members(a).length);
    }),
  );
});

test("a set survives the way through Postgres' text", () => {
  fc.assert(
    fc.property(sets, (set) => {
      expect(parseMultirange(formatMultirange(set))).toEqual(set);
    }),
  );
});

test("a range that is none is refused", () => {
  expect(() => indexSet([{ first: 3, last: 2 }])).toThrow(RangeError);
  expect(() => indexSet([{ first: -1, last: 2 }])).toThrow(RangeError);
});
