import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divide, ShareTree } from "./shares.ts";
import type { ShareNode } from "./shares.ts";

const node = (parent: number, weight: number, guaranteed = 0, limit = Infinity): ShareNode => ({
  parent,
  weight,
  guaranteedMilli: guaranteed,
  limitMilli: limit,
});

describe("dividing an amount", () => {
  const table: {
    name: string;
    amount: number;
    claims: [weight: number, floor: number, cap: number][];
    expected: number[];
  }[] = [
    {
      name: "by weight",
      amount: 8,
      claims: [
        [1, 0, 99],
        [3, 0, 99],
      ],
      expected: [2, 6],
    },
    {
      name: "what one cannot use goes to the other",
      amount: 8,
      claims: [
        [1, 0, 99],
        [3, 0, 3],
      ],
      expected: [5, 3],
    },
    {
      name: "a floor comes first",
      amount: 8,
      claims: [
        [1, 5, 99],
        [3, 0, 99],
      ],
      expected: [5, 3],
    },
    {
      name: "a floor without demand is lent out",
      amount: 8,
      claims: [
        [1, 5, 1],
        [3, 0, 99],
      ],
      expected: [1, 7],
    },
    {
      name: "floors that do not fit shrink alike",
      amount: 6,
      claims: [
        [1, 6, 99],
        [1, 3, 99],
      ],
      expected: [4, 2],
    },
    {
      name: "a floor and a cap at once",
      amount: 12,
      claims: [
        [1, 6, 99],
        [1, 0, 1],
        [1, 0, 99],
      ],
      expected: [6, 1, 5],
    },
    { name: "nothing to give", amount: 0, claims: [[1, 1, 2]], expected: [0] },
  ];
  test.each(table)("$name", ({ amount, claims, expected }) => {
    const given = divide(
      amount,
      claims.map(([weight, floor, cap]) => ({ weight, floor, cap })),
    );
    for (const [at, part] of expected.entries()) expect(given[at]).toBeCloseTo(part, 9);
  });

  test("all that can be used is given, and no claim with less for its weight could be given more", () => {
    const claim = fc.record({
      weight: fc.integer({ min: 1, max: 9 }),
      floor: fc.integer({ min: 0, max: 20 }),
      cap: fc.integer({ min: 0, max: 40 }),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 100 }),
        fc.array(claim, { maxLength: 7 }),
        (amount, claims) => {
          const given = divide(amount, claims);
          const usable = claims.reduce((sum, { cap }) => sum + cap, 0);
          expect(given.reduce((sum, part) => sum + part, 0)).toBeCloseTo(
            Math.min(amount, usable),
            6,
          );
          const floors = claims.reduce((sum, { floor, cap }) => sum + Math.min(floor, cap), 0);
          for (const [at, { weight, floor, cap }] of claims.entries()) {
            expect(given[at]).toBeLessThanOrEqual(cap + 1e-9);
            if (floors <= amount)
              expect(given[at]).toBeGreaterThanOrEqual(Math.min(floor, cap) - 1e-9);
            if (floors > amount || given[at]! >= cap - 1e-9) continue;
            // Not full: whoever has more for its weight only has its floor.
            for (const [other, rich] of claims.entries()) {
              if (given[other]! / rich.weight > given[at]! / weight + 1e-6) {
                expect(given[other]).toBeCloseTo(Math.min(rich.floor, rich.cap), 6);
              }
            }
          }
        },
      ),
    );
  });
});

describe("the tree of queues", () => {
  test("an organisation's part is divided among its projects, whatever the number of them", () => {
    // a (weight 1) with two projects, b (weight 1) with one.
    const tree = new ShareTree([node(-1, 1), node(-1, 1), node(0, 1), node(0, 3), node(1, 1)]);
    for (const leaf of [2, 3, 4]) tree.want(leaf, 100_000);
    expect([...tree.fair(8_000)]).toEqual([4_000, 4_000, 1_000, 3_000, 4_000]);
  });

  test("a limit below leaves the rest to others", () => {
    const tree = new ShareTree([node(-1, 1), node(-1, 1), node(0, 1, 0, 1_000)]);
    tree.want(2, 100_000);
    tree.want(1, 100_000);
    expect([...tree.fair(8_000)]).toEqual([1_000, 7_000, 1_000]);
  });

  test("a queue that is not valid is refused", () => {
    expect(() => new ShareTree([node(0, 1)])).toThrow(RangeError);
    expect(() => new ShareTree([node(-1, 0)])).toThrow(RangeError);
    expect(() => new ShareTree([node(-1, 1, 5, 4)])).toThrow(RangeError);
  });
});
