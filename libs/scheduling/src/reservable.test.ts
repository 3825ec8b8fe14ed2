import fc from "fast-check";
import { expect, test } from "vitest";
import { reservable, type Span } from "./reservable.ts";

const models = ["A", "B", "C"];

const arbitrarySpan: fc.Arbitrary<Span> = fc
  .record({
    gpus: fc.integer({ min: 1, max: 6 }),
    models: fc.subarray(models),
    startMs: fc.integer({ min: 0, max: 10 }),
    lengthMs: fc.integer({ min: 1, max: 6 }),
  })
  .map(({ lengthMs, ...span }) => ({ ...span, endMs: span.startMs + lengthMs }));

const arbitrarySupply = fc
  .tuple(...models.map(() => fc.integer({ min: 0, max: 8 })))
  .map((counts) => new Map(models.map((model, at) => [model, counts[at]!])));

const wants = (span: Span): readonly string[] => (span.models.length === 0 ? models : span.models);

/** Hall: all can be served if and only if no set of models is wanted, and nothing else, by more than it has. */
function served(spans: readonly Span[], supply: ReadonlyMap<string, number>): boolean {
  for (let mask = 0; mask < 1 << models.length; mask++) {
    const set = models.filter((_, at) => (mask >> at) & 1);
    const within = spans.filter((span) => wants(span).every((model) => set.includes(model)));
    const wanted = within.reduce((sum, { gpus }) => sum + gpus, 0);
    if (wanted > set.reduce((sum, model) => sum + (supply.get(model) ?? 0), 0)) return false;
  }
  return true;
}

const at = (spans: readonly Span[], ms: number): Span[] =>
  spans.filter(({ startMs, endMs }) => startMs <= ms && ms < endMs);

test("what is reservable can be had beside the others at every moment, and not one GPU more", () => {
  const others = fc.array(arbitrarySpan, { maxLength: 8 });
  fc.assert(
    fc.property(arbitrarySpan, others, arbitrarySupply, (wanted, all, supply) => {
      // The others fit: each was checked when it was made.
      const kept: Span[] = [];
      for (const span of all) {
        const trial = [...kept, span];
        const fits = trial.every(({ startMs }) => served(at(trial, startMs), supply));
        if (fits) kept.push(span);
      }
      const { gpus, atMs } = reservable(wanted, kept, supply);
      const fits = (count: number): boolean =>
        Array.from({ length: wanted.endMs - wanted.startMs }, (_, n) => wanted.startMs + n).every(
          (ms) => served([...at(kept, ms), { ...wanted, gpus: count }], supply),
        );
      expect(fits(gpus)).toBe(true);
      expect(fits(gpus + 1)).toBe(false);
      expect(served([...at(kept, atMs), { ...wanted, gpus: gpus + 1 }], supply)).toBe(false);
    }),
    { numRuns: 500 },
  );
});

test("an empty fleet has nothing, and what is over is in nobody's way", () => {
  const span = { gpus: 1, models: [], startMs: 5, endMs: 6 };
  expect(reservable(span, [], new Map())).toEqual({ gpus: 0, atMs: 5 });
  const supply = new Map([["A", 2]]);
  expect(reservable(span, [{ ...span, startMs: 0, endMs: 5 }], supply).gpus).toBe(2);
});
