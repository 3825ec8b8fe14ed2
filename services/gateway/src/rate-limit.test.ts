import { Fault } from "@fastgpu/domain/fault";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createRateLimit } from "./rate-limit.ts";

test("a tenant never gets more than its burst and its rate, and never less than its rate", () => {
  const steps = fc.array(fc.record({ waitMs: fc.nat(2_000), calls: fc.nat(40) }), {
    minLength: 1,
    maxLength: 50,
  });
  fc.assert(
    fc.property(steps, (schedule) => {
      let time = 0;
      const take = createRateLimit({ callsPerSecond: 10, burst: 20, clock: { nowMs: () => time } });
      let passed = 0;
      for (const { waitMs, calls } of schedule) {
        time += waitMs;
        for (let i = 0; i < calls; i += 1) {
          try {
            take("org-1");
            passed += 1;
          } catch (error) {
            const wait = Fault.from(error).retryAfterMs ?? 0;
            expect(wait).toBeGreaterThan(0);
            expect(wait).toBeLessThanOrEqual(100);
          }
        }
        expect(passed).toBeLessThanOrEqual(20 + (time / 1000) * 10);
      }
    }),
  );
});

test("a tenant's allowance is its own, and waiting as told is enough", () => {
  let time = 0;
  const take = createRateLimit({ callsPerSecond: 2, burst: 1, clock: { nowMs: () => time } });
  take("org-1");
  take("org-2");
  try {
    take("org-1");
    expect.unreachable();
  } catch (error) {
    time += Fault.from(error).retryAfterMs ?? 0;
  }
  take("org-1");
});
