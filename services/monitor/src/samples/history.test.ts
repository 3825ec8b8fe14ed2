import fc from "fast-check";
import { expect, test } from "vitest";
import { createHistory } from "./history.ts";
import type { Moment } from "./history.ts";
import type { Figures } from "./sample.ts";

function aMoment(timeMs: number): Moment {
  const figures: Figures = {
    utilizationPercent: timeMs % 100,
    memoryUsedMib: timeMs,
    memoryFreeMib: Number.NaN,
    temperatureCelsius: 40.5,
    powerWatts: Number.NaN,
    smClockMhz: 1_000,
    memoryClockMhz: 2_000,
    totalEnergyMillijoules: timeMs * 1_000,
    xid: 0,
  };
  return { timeMs, figures };
}

/** The same, as a list of objects. */
function naive(times: readonly number[], bounds: { keepMs: number; stepMs: number }): number[] {
  const most = Math.ceil(bounds.keepMs / bounds.stepMs) + 1;
  let kept: number[] = [];
  let stepStart = Number.NEGATIVE_INFINITY;
  for (const time of times) {
    const last = kept.at(-1);
    if (last !== undefined && time <= last) continue;
    if (last !== undefined && time - stepStart < bounds.stepMs) {
      kept[kept.length - 1] = time;
      continue;
    }
    kept = [...kept.filter((one) => one >= time - bounds.keepMs), time].slice(-most);
    stepStart = time;
  }
  return kept;
}

test("the ring keeps what a list would, in bounded space", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -5, max: 400 }), { maxLength: 300 }),
      fc.integer({ min: 1, max: 3_000 }),
      fc.integer({ min: 1, max: 300 }),
      (steps, keepMs, stepMs) => {
        const history = createHistory({ keepMs, stepMs });
        const times: number[] = [];
        let timeMs = 1_000;
        for (const step of steps) {
          timeMs += step;
          times.push(timeMs);
          history.add(aMoment(timeMs));
        }
        const kept = naive(times, { keepMs, stepMs });
        const moments = history.since(Number.NEGATIVE_INFINITY);
        expect(moments).toEqual(kept.map(aMoment));
        expect(history.newest()).toEqual(kept.length === 0 ? undefined : aMoment(kept.at(-1) ?? 0));
        expect(moments.length).toBeLessThanOrEqual(Math.ceil(keepMs / stepMs) + 1);
        const fromMs = kept[Math.floor(kept.length / 2)] ?? 0;
        expect(history.since(fromMs)).toEqual(kept.filter((one) => one >= fromMs).map(aMoment));
      },
    ),
  );
});
