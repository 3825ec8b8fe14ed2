import fc from "fast-check";
import { expect, test } from "vitest";
import { type ServerBound, earliestLocal, judgeLease, latestServerTime, learn } from "./clock.ts";

/** A server whose clock differs by an offset and runs at a rate, and messages that take their time. */
const world = fc.record({
  offsetMs: fc.integer({ min: -1e9, max: 1e9 }),
  ratePpm: fc.integer({ min: -500, max: 500 }),
  acks: fc.array(
    fc.record({ gapMs: fc.nat(20_000), outMs: fc.nat(3_000), backMs: fc.nat(3_000) }),
    { minLength: 1, maxLength: 20 },
  ),
  laterMs: fc.nat(60_000),
});

test("the server's clock is never past the bound, whatever the delays, offset and drift", () => {
  fc.assert(
    fc.property(world, ({ offsetMs, ratePpm, acks, laterMs }) => {
      const serverAt = (local: number): number => local * (1 + ratePpm / 1e6) + offsetMs;
      let bound: ServerBound | undefined;
      let now = 1_000;
      for (const { gapMs, outMs, backMs } of acks) {
        now += gapMs;
        const sentAtMs = now;
        bound = learn(bound, { sentAtMs, serverTimeMs: Math.floor(serverAt(now + outMs)) });
        now += outMs + backMs;
        expect(latestServerTime(bound, now)).toBeGreaterThanOrEqual(Math.floor(serverAt(now)) - 1);
      }
      now += laterMs;
      if (bound === undefined) return;
      expect(latestServerTime(bound, now)).toBeGreaterThanOrEqual(Math.floor(serverAt(now)) - 1);
      const end = Math.floor(serverAt(now)) + 10_000;
      expect(serverAt(earliestLocal(bound, end))).toBeLessThanOrEqual(end + 1);
    }),
  );
});

test("a task is told to stop before its lease can have ended on the server, and nothing starts late", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1e6, max: 1e6 }),
      fc.nat(2_000),
      fc.nat(30_000),
      fc.integer({ min: 100, max: 5_000 }),
      (offsetMs, delayMs, ageMs, marginMs) => {
        const bound = learn(undefined, { sentAtMs: 0, serverTimeMs: offsetMs + delayMs });
        const leaseEndMs = offsetMs + delayMs + 15_000;
        const verdict = judgeLease({ bound, leaseEndMs, marginMs, nowMs: ageMs });
        const trueLeftMs = leaseEndMs - (ageMs + offsetMs);
        if (verdict === "start") expect(trueLeftMs).toBeGreaterThanOrEqual(2 * marginMs);
        if (verdict === "run") expect(trueLeftMs).toBeGreaterThan(marginMs);
      },
    ),
  );
});

test("a slow acknowledgement does not loosen what a fast one taught", () => {
  const fast = learn(undefined, { sentAtMs: 0, serverTimeMs: 1_000 });
  const slow = learn(fast, { sentAtMs: 1_000, serverTimeMs: 5_000 });
  expect(slow).toBe(fast);
});

test("without any acknowledgement nothing starts", () => {
  const at = { bound: undefined, leaseEndMs: 1e15, marginMs: 1, nowMs: 0 };
  expect(judgeLease(at)).toBe("run");
});
