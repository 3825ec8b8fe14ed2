import { expect, test } from "vitest";
import { skuOf } from "./sku.ts";

test.each([
  ["NVIDIA H200", false, "gpu.h200"],
  ["NVIDIA H100 80GB HBM3", false, "gpu.h100"],
  ["NVIDIA H100 PCIe", false, "gpu.h100"],
  ["nvidia a100-sxm4-80gb", false, "gpu.a100"],
  ["NVIDIA GH200 480GB", false, "gpu.generic"],
  ["NVIDIA RTX A1000", false, "gpu.generic"],
  ["Tesla V100-SXM2-16GB", false, "gpu.generic"],
  ["", false, "gpu.generic"],
  ["NVIDIA H100 80GB HBM3", true, "gpu.simulated"],
])("%j, simulated %s, is sold as %s", (model, simulated, sku) => {
  expect(skuOf({ model, simulated })).toBe(sku);
});
