import fc from "fast-check";
import { expect, test } from "vitest";
import { rateSegment, usageKinds } from "./rate.ts";

const price = fc.bigInt({ min: 1n, max: 100_000_000_000n });
const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 400 * 24 * 3_600_000 }), {
  minLength: 1,
  maxLength: 30,
});

/** Segments between sorted cuts, from 0. */
function segments(points: readonly number[]) {
  const sorted = [0, ...points].toSorted((a, b) => a - b);
  return sorted.slice(1).map((billingEndMs, i) => ({
    billingStartMs: sorted[i] ?? 0,
    billingEndMs,
  }));
}

test("any split adds up to the exact total rounded down once, in any order", () => {
  fc.assert(
    fc.property(price, cuts, fc.infiniteStream(fc.nat()), (hourly, points, keys) => {
      const shuffled = segments(points)
        .map((segment) => ({ segment, key: keys.next().value ?? 0 }))
        .toSorted((a, b) => a.key - b.key);
      let sum = 0n;
      for (const { segment } of shuffled) {
        const { amountNanos, freeReason } = rateSegment("billable", segment, hourly);
        expect(freeReason).toBeUndefined();
        expect(amountNanos).toBeGreaterThanOrEqual(0n);
        sum += amountNanos;
      }
      // The exact amount is the fraction hourly · ms / 3,600,000; sum is its floor.
      const numerator = hourly * BigInt(Math.max(...points));
      expect(sum * 3_600_000n).toBeLessThanOrEqual(numerator);
      expect((sum + 1n) * 3_600_000n).toBeGreaterThan(numerator);
    }),
  );
});

test("a segment is never further than one nano from its exact amount", () => {
  fc.assert(
    fc.property(price, cuts, (hourly, points) => {
      for (const segment of segments(points)) {
        const { amountNanos } = rateSegment("stopping", segment, hourly);
        const exact = hourly * BigInt(segment.billingEndMs - segment.billingStartMs);
        const error = amountNanos * 3_600_000n - exact;
        expect(error > -3_600_000n && error < 3_600_000n).toBe(true);
      }
    }),
  );
});

test.each([
  ["starting", "starting"],
  ["billable", undefined],
  ["stopping", undefined],
  ["fault", "fault"],
  ["sanitising", "sanitising"],
  ["unknown", "unknown"],
] as const)("%s time is free because of %s", (kind, reason) => {
  const rating = rateSegment(kind, { billingStartMs: 0, billingEndMs: 3_600_000 }, 7n);
  expect(rating).toEqual({ amountNanos: reason === undefined ? 7n : 0n, freeReason: reason });
  expect(usageKinds).toContain(kind);
});

test("what costs nothing says why", () => {
  const hour = { billingStartMs: 0, billingEndMs: 3_600_000 };
  expect(rateSegment("billable", hour, 0n).freeReason).toBe("free_sku");
  expect(rateSegment("billable", hour, undefined).freeReason).toBe("no_price");
});
