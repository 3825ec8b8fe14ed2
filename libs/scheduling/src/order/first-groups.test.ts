import fc from "fast-check";
import { expect, test } from "vitest";
import { FirstGroups } from "./first-groups.ts";

interface Group {
  readonly leaf: number;
  readonly baseMd: number;
  readonly entitledMd: number;
  readonly submitMs: number;
}

const leaves = 3;
const groupOf = fc.record({
  leaf: fc.nat({ max: leaves - 1 }),
  baseMd: fc.nat({ max: 4 }),
  entitledMd: fc.constantFrom(0, -1_000),
  submitMs: fc.nat({ max: 2 }),
});
/** What happens after each group that is taken: its leaf's term rises so much; with `falls` another's falls after. */
const stepOf = fc.record({
  rises: fc.nat({ max: 3 }),
  falls: fc.option(fc.nat({ max: leaves - 1 })),
});

test("the first group is always one with the lowest score of that moment, ties by submit and number", () => {
  fc.assert(
    fc.property(fc.array(groupOf, { maxLength: 12 }), fc.array(stepOf), (groups, steps) => {
      const terms = [0, 0, 0];
      const of = (at: number): Group => groups[at]!;
      const scoreOf = (at: number): number =>
        of(at).baseMd + terms[of(at).leaf]! + of(at).entitledMd;
      const order = new FirstGroups(
        { groups: groups.length, leaves },
        {
          leaf: (at) => of(at).leaf,
          baseMd: (at) => of(at).baseMd,
          entitledMd: (at) => of(at).entitledMd,
          termMd: (leaf) => terms[leaf]!,
          submitMs: (at) => of(at).submitMs,
          tie: (at) => at,
        },
      );
      const left = new Set(groups.keys());
      for (const at of left) order.enter(at);
      for (let n = 0; left.size > 0; n++) {
        const taken = order.take();
        const [first] = [...left].toSorted(
          (a, b) => scoreOf(a) - scoreOf(b) || of(a).submitMs - of(b).submitMs || a - b,
        );
        expect(taken).toEqual({ group: first, scoreMd: scoreOf(first!) });
        left.delete(taken.group);
        const { rises, falls } = steps[n] ?? { rises: 1, falls: null };
        terms[of(taken.group).leaf]! += rises;
        if (falls === null) continue;
        terms[falls]! -= 2;
        order.renew([...groups.keys()].filter((at) => of(at).leaf === falls));
      }
      expect(order.isEmpty).toBe(true);
    }),
  );
});
