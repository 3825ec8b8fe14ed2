import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { startToWire } from "./explanation-to-wire.ts";

const rests = { runs: 7, p50Ms: 60_000, meanFactorOff: 1.5 };
const starts = { kind: "starts", members: [], freedOn: undefined, stops: [] } as const;

test("starts that were not followed plan by plan are told as rough, field and words", () => {
  const told = startToWire(
    {
      ...{ earliestMs: 1_000, rests },
      forecast: { kind: "about", atMs: 9_000 },
      expected: { kind: "about", atMs: 5_000 },
    },
    1_000,
  );
  expect(told).toMatchObject({
    ...{ latestTime: timestampFromMs(9_000), latestRough: true },
    ...{ expectedTime: timestampFromMs(5_000), expectedRough: true },
  });
  expect(told.basis).toContain("latest, roughly: when the work before it is done");
  expect(told.basis).toContain("expected, roughly by the work before it: by 7 runs like it");
});

test("starts that were followed plan by plan are not rough, and an expected one is never after the latest", () => {
  const told = startToWire(
    {
      ...{ earliestMs: 1_000, rests },
      forecast: { ...starts, atMs: 9_000 },
      expected: { kind: "about", atMs: 12_000 },
    },
    1_000,
  );
  expect(told).toMatchObject({
    ...{ latestTime: timestampFromMs(9_000), latestRough: false },
    expectedTime: timestampFromMs(9_000),
  });
  expect(told.basis).not.toContain("latest, roughly");
});

test("no latest start is told only where something before the task has no known end, and the basis says so", () => {
  const told = startToWire({ earliestMs: 1_000, forecast: { kind: "unknown" } }, 1_000);
  expect(told.latestTime).toBeUndefined();
  expect(told.basis).toBe("something that runs or waits before it has no known end");
});
