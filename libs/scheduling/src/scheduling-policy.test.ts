import { expect, test } from "vitest";
import { checkSchedulingPolicy, defaultSchedulingPolicy } from "./scheduling-policy.ts";

const shipped = defaultSchedulingPolicy;

test("the shipped policy is valid", () => {
  expect(checkSchedulingPolicy(shipped)).toBeUndefined();
});

test.each([
  ["placement", { ...shipped, placement: "guess" as "default" }],
  ["order.gapMd", { ...shipped, order: { ...shipped.order, gapMd: 0 } }],
  ["usage.halfLifeMs", { ...shipped, usage: { ...shipped.usage, halfLifeMs: 0 } }],
  ["usage.weightMd", { ...shipped, usage: { ...shipped.usage, weightMd: Number.NaN } }],
  ["consolidation.maxMoves", { ...shipped, consolidation: { enabled: true, maxMoves: 0 } }],
])("names %s where it is out of its range", (field, policy) => {
  expect(checkSchedulingPolicy(policy)?.field).toBe(field);
});
