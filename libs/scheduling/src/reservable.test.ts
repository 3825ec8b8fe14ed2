import { expectSeen } from "@fastgpu/testkit/random-cases";
import fc from "fast-check";
import { expect, test } from "vitest";
import { bundlesOn, reservable, type NodeGpus, type Span } from "./reservable.ts";

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
      const { gpus, atMs } = reservable(wanted, kept, [supply]);
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
  expect(reservable(span, [], [])).toEqual({ gpus: 0, atMs: 5 });
  const supply = new Map([["A", 2]]);
  expect(reservable(span, [{ ...span, startMs: 0, endMs: 5 }], [supply]).gpus).toBe(2);
});

test("GPUs of one node each are reservable as far as there are such nodes beside the others, and theirs stay", () => {
  const bundledSpan: fc.Arbitrary<Span> = fc
    .record({ perNode: fc.constantFrom(2, 4), count: fc.integer({ min: 1, max: 2 }) })
    .map(({ perNode, count }) => ({
      ...{ perNode, gpus: perNode * count, models: [], startMs: 0, endMs: 5 },
    }));
  const nodes: fc.Arbitrary<NodeGpus[]> = fc.array(
    fc.integer({ min: 1, max: 8 }).map((gpus) => new Map([["A", gpus]])),
    { maxLength: 3 },
  );
  /** Whether all fit, by trying every choice of nodes. */
  function packs(sizes: readonly number[], loose: number, left: readonly number[]): boolean {
    const [size, ...others] = sizes;
    if (size === undefined) return left.reduce((sum, gpus) => sum + gpus, 0) >= loose;
    return left.some(
      (gpus, at) => gpus >= size && packs(others, loose, left.with(at, gpus - size)),
    );
  }
  const sizesOf = (spans: readonly Span[]): number[] =>
    spans.flatMap(({ perNode = 1, gpus }) =>
      perNode > 1 ? Array.from({ length: gpus / perNode }, () => perNode) : [],
    );
  const seen = { some: 0, none: 0 };
  fc.assert(
    fc.property(
      bundledSpan,
      fc.option(bundledSpan, { nil: undefined }),
      fc.integer({ min: 0, max: 6 }),
      nodes,
      (wanted, other, loose, fleet) => {
        const counts = fleet.map((node) => node.get("A")!);
        const anywhere = { gpus: loose, models: [], startMs: 0, endMs: 5 };
        const others = [...(other === undefined ? [] : [other]), anywhere];
        fc.pre(packs(sizesOf(others), loose, counts));
        const { gpus } = reservable(wanted, others, fleet);
        const { perNode = 1 } = wanted;
        const fits = (more: number): boolean =>
          packs(
            [...sizesOf(others), ...sizesOf([{ ...wanted, gpus: more }])].toSorted((a, b) => b - a),
            loose,
            counts,
          );
        expect(gpus === 0 || fits(gpus)).toBe(true);
        expect(fits(gpus + perNode)).toBe(false);
        expect(bundlesOn(wanted, fleet) * perNode).toBeGreaterThanOrEqual(gpus);
        seen[gpus > 0 ? "some" : "none"]++;
      },
    ),
    { numRuns: 300 },
  );
  expectSeen(seen.some, 50, "some");
  expectSeen(seen.none, 50, "none");
});
