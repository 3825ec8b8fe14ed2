import { Fault } from "@fastgpu/domain/fault";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { expect, test } from "vitest";
import { stringify } from "yaml";
import { readPolicy } from "./read-policy.ts";

test.each(["", "# nothing but a comment\n", "{}", "order:\n"])(
  "what is left out has the shipped value: %j",
  (text) => {
    expect(readPolicy(text, "p.yaml")).toEqual(defaultSchedulingPolicy);
  },
);

test("parameters are taken, in either spelling, and the rest stays as shipped", () => {
  const text =
    "placement: fgd\norder:\n  min_run_ms: 5000\n  gapMd: 3000\npreemption: {enabled: false}\n";
  expect(readPolicy(text, "p.yaml")).toEqual({
    ...defaultSchedulingPolicy,
    placement: "fgd",
    order: { ...defaultSchedulingPolicy.order, minRunMs: 5_000, gapMd: 3_000 },
    preemption: { enabled: false },
  });
});

test("the whole shipped policy, written out, is itself", () => {
  expect(readPolicy(stringify(defaultSchedulingPolicy), "p.yaml")).toEqual(defaultSchedulingPolicy);
});

test.each([
  [
    "order:\n  shareWeigthMd: 1\n",
    "p.yaml:2: order.shareWeigthMd is no parameter",
    "did you mean shareWeightMd?",
  ],
  ["placment: fgd\n", "p.yaml:1: placment is no parameter", "did you mean placement?"],
  ["placement: fdg\n", "p.yaml:1: placement", undefined],
  [
    "# a comment\n\norder:\n  gapMd: 0\n",
    "p.yaml:4: order.gapMd: 0 is not in [1, 20000]",
    undefined,
  ],
  ["order: {gapMd: many}\n", "p.yaml:1: order.gapMd", undefined],
  ["usage:\n  halfLifeMs: 1\n", "p.yaml:2: usage.halfLifeMs: 1 is not in", undefined],
  ["order: 3\n", "p.yaml:1: order", undefined],
  ["order:\n  - gapMd\n", "p.yaml:1: order", undefined],
  ["order:\n  gapMd: [1]\n", "p.yaml:2: order.gapMd", undefined],
  ["order:\n  gapMd: .nan\n", "p.yaml:2: order.gapMd", undefined],
  ["order:\n  gapMd: 2\n  gap_md: 3\n", "p.yaml:3: order.gapMd is given twice", undefined],
  ["a: [\n", "p.yaml:2", undefined],
  ["{ a: 1 ][", /^p\.yaml:1: Flow map must end with a \}$/, undefined],
  ["just words", "p.yaml:1: it must be a mapping", undefined],
])("%j is refused with its place", (text, message, hint) => {
  let fault: unknown;
  try {
    readPolicy(text, "p.yaml");
  } catch (error) {
    fault = error;
  }
  expect(fault).toBeInstanceOf(Fault);
  expect((fault as Fault).message).toMatch(message);
  expect((fault as Fault).hint).toBe(hint);
  expect((fault as Fault).code).toBe("INVALID_ARGUMENT");
});
