import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  UsageKind,
  UsageRecordSchema,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { expect, test } from "vitest";
import { billLines } from "./first-task.ts";

const record = (
  kind: UsageKind,
  sku: string,
  [from, to]: [number, number],
  nanos: bigint,
  simulated = false,
) =>
  create(UsageRecordSchema, {
    kind,
    sku,
    simulated,
    startTime: timestampFromMs(from),
    endTime: timestampFromMs(to),
    amount: { currency: "USD", nanos },
  });

test("a bill sums each SKU's paid segments exactly and marks simulated GPUs", () => {
  const lines = billLines([
    record(UsageKind.STARTING, "gpu.simulated", [0, 900], 0n, true),
    record(UsageKind.BILLABLE, "gpu.simulated", [900, 60_900], 1_666_666n, true),
    record(UsageKind.STOPPING, "gpu.simulated", [60_900, 62_900], 55_556n, true),
    record(UsageKind.BILLABLE, "gpu.h200", [0, 1000], 9_007_199_254_740_993n),
  ]);
  expect(lines).toEqual([
    "gpu.simulated, 1m 2s: 0.001722222 USD (simulated GPU)",
    "gpu.h200, 1s: 9007199.254740993 USD",
  ]);
});
