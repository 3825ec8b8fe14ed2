import fc from "fast-check";
import { expect, test } from "vitest";
import { BoundTree, lastOrder } from "./bound-tree.ts";

test("the top is the best pair after any changes, with the greater order among equal values", () => {
  const size = 150;
  const change = fc.record({
    slot: fc.nat(size - 1),
    value: fc.constantFrom(Number.NEGATIVE_INFINITY, -2, -1, 0),
    order: fc.integer({ min: -40, max: 0 }),
  });
  const property = fc.property(fc.array(change, { maxLength: 400 }), (changes) => {
    const tree = new BoundTree(size);
    const pairs = Array.from({ length: size }, () => ({
      value: Number.NEGATIVE_INFINITY,
      order: lastOrder,
    }));
    for (const { slot, value, order } of changes) {
      tree.set(slot, value, order);
      pairs[slot] = { value, order };
      const [best] = pairs.toSorted((a, b) =>
        a.value === b.value ? b.order - a.order : b.value - a.value,
      );
      const top = tree.top();
      if (best!.value === Number.NEGATIVE_INFINITY) expect(top).toBe(-1);
      else expect(pairs[top]).toEqual(best);
    }
  });
  fc.assert(property, { numRuns: 60 });
});
