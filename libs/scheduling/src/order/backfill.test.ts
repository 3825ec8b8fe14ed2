import fc from "fast-check";
import { expect, test } from "vitest";
import { reserveStart } from "./backfill.ts";

test("the start is reserved for when enough have ended, and what is spare then may be used", () => {
  const reservation = reserveStart({
    needMilli: 6_000,
    freeMilli: 1_000,
    running: [
      { endMs: 300, gpusMilli: 4_000 },
      { endMs: 100, gpusMilli: 2_000 },
      { endMs: 200, gpusMilli: 1_000 },
    ],
  });
  expect(reservation.startMs).toBe(300);
  expect(reservation.may(300, 1_000)).toBe(true);
  expect(reservation.may(301, 3_000)).toBe(false);
  expect(reservation.may(301, 2_000)).toBe(true);
  reservation.took(301, 2_000);
  expect(reservation.may(301, 1_000)).toBe(false);
});

test("backfill never delays the reserved start", () => {
  const job = fc.record({
    gpusMilli: fc.integer({ min: 1, max: 8 }).map((gpus) => gpus * 1000),
    endMs: fc.integer({ min: 1, max: 50 }),
  });
  fc.assert(
    fc.property(
      fc.array(job, { maxLength: 6 }),
      fc.array(job, { maxLength: 12 }),
      fc.integer({ min: 1, max: 8 }),
      (before, later, need) => {
        const capacity = 8_000;
        const running = before.filter(
          (_, at) =>
            before.slice(0, at + 1).reduce((sum, { gpusMilli }) => sum + gpusMilli, 0) <= capacity,
        );
        const held = (): number => running.reduce((sum, { gpusMilli }) => sum + gpusMilli, 0);
        const reservation = reserveStart({
          needMilli: need * 1000,
          freeMilli: capacity - held(),
          running: running.slice(),
        });
        if (need * 1000 <= capacity - held()) return;
        for (const candidate of later) {
          if (candidate.gpusMilli > capacity - held()) continue;
          if (!reservation.may(candidate.endMs, candidate.gpusMilli)) continue;
          reservation.took(candidate.endMs, candidate.gpusMilli);
          running.push(candidate);
        }
        const heldThen = running
          .filter(({ endMs }) => endMs > reservation.startMs)
          .reduce((sum, { gpusMilli }) => sum + gpusMilli, 0);
        expect(heldThen + need * 1000).toBeLessThanOrEqual(capacity);
      },
    ),
    { numRuns: 1_000 },
  );
});
