import fc from "fast-check";
import { expect, test } from "vitest";
import { gapPrices } from "./gap-price.ts";

test("a gap that no share fits is worth nothing, a full GPU 1000", () => {
  const prices = gapPrices([{ milli: 810, count: 1 }]);
  expect(prices[190]).toBe(0);
  expect(prices[809]).toBe(0);
  expect(prices[810]).toBe(1000);
  expect(prices[1000]).toBe(1000);
});

test("halves are worth half, whatever is left beside them", () => {
  const prices = gapPrices([{ milli: 470, count: 3 }]);
  expect([prices[460], prices[470], prices[530], prices[940]]).toEqual([0, 500, 500, 1000]);
});

test("a common partner makes an odd gap worth keeping", () => {
  const alone = gapPrices([{ milli: 700, count: 1 }]);
  const partnered = gapPrices([
    { milli: 700, count: 1 },
    { milli: 300, count: 3 },
  ]);
  expect(alone[300]).toBe(0);
  expect(partnered[300]).toBe(333);
  expect(partnered[700]).toBe(667);
});

test("more open gaps than future shares to fill them are worth nothing", () => {
  const demands = [
    { milli: 700, count: 100 },
    { milli: 300, count: 300 },
  ];
  const scarce = gapPrices(demands, [{ milli: 300, count: 1 }]);
  const plenty = gapPrices(demands, [{ milli: 300, count: 1000 }]);
  expect(scarce[300]).toBeGreaterThan(0);
  expect(plenty[300]).toBe(0);
  expect(plenty[700]).toBe(1000);
});

test("without shares only whole GPUs have worth", () => {
  const prices = gapPrices([]);
  expect([prices[0], prices[999], prices[1000]]).toEqual([0, 0, 1000]);
});

test("prices grow with the gap, and no two gaps of one GPU are worth more than it", () => {
  const demand = fc.record({
    milli: fc.integer({ min: 1, max: 99 }).map((tens) => 10 * tens),
    count: fc.integer({ min: 1, max: 500 }),
  });
  const gap = fc.record({
    milli: fc.integer({ min: 1, max: 999 }),
    count: fc.integer({ min: 1, max: 500 }),
  });
  const unique = { maxLength: 12, selector: ({ milli }: { readonly milli: number }) => milli };
  const property = fc.property(
    fc.uniqueArray(demand, unique),
    fc.uniqueArray(gap, unique),
    (demands, stock) => {
      const prices = gapPrices(demands, stock);
      for (let at = 1; at <= 1000; at++) {
        expect(prices[at]!).toBeGreaterThanOrEqual(prices[at - 1]!);
        expect(prices[at]! + prices[1000 - at]!).toBeLessThanOrEqual(1001);
      }
    },
  );
  fc.assert(property, { numRuns: 100 });
});
