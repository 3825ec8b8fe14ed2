import fc from "fast-check";
import { expect, test } from "vitest";
import { countOf, indexesOf, rangesOf, without } from "./ranges.ts";

test("ranges hold exactly the indexes they were made of, and what remains is the complement", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(40)), fc.array(fc.nat(40)), (a, b) => {
      const first = rangesOf(a);
      const second = rangesOf(b.filter((i) => !a.includes(i)));
      expect(indexesOf(first)).toEqual([...new Set(a)].toSorted((x, y) => x - y));
      expect(countOf(first)).toBe(new Set(a).size);
      const rest = indexesOf(without([[0, 41]], [first, second]));
      const all = new Set([...a, ...b]);
      expect(rest).toEqual(Array.from({ length: 41 }, (_, i) => i).filter((i) => !all.has(i)));
    }),
  );
});
