import fc from "fast-check";
import { expect, test } from "vitest";
import { coveredMs, coverNanos } from "./cover.ts";
import { maxCoverMs } from "./hold.ts";

const items = fc.array(
  fc.record({
    hourlyNanos: fc.oneof(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: 0n, max: 10n ** 11n })),
    quantity: fc.integer({ min: 1, max: 1_024 }),
  }),
  { maxLength: 4 },
);

test("the covered time is the longest that the money buys", () => {
  fc.assert(
    fc.property(
      items,
      fc.bigInt({ min: 0n, max: 10n ** 16n }),
      fc.integer({ min: 1, max: maxCoverMs }),
      (priced, nanos, capMs) => {
        const ms = coveredMs(priced, nanos, capMs);
        expect(Number.isSafeInteger(ms) && ms >= 0 && ms <= capMs).toBe(true);
        expect(coverNanos(priced, ms)).toBeLessThanOrEqual(nanos);
        if (ms < capMs) expect(coverNanos(priced, ms + 1)).toBeGreaterThan(nanos);
      },
    ),
  );
});

test("debt covers nothing, and no GPUs cost nothing", () => {
  expect(coveredMs([{ hourlyNanos: 0n, quantity: 1 }], -1n, 1_000)).toBe(0);
  expect(coveredMs([], 0n, 1_000)).toBe(1_000);
});
