/** What a price is looked up by. */
export interface GpuForSale {
  /** The vendor's name of the model, for example `NVIDIA H100 80GB HBM3`. */
  readonly model: string;
  /** True where nothing is computed on it. */
  readonly simulated: boolean;
}

/** Stock-keeping units of whole GPUs. `gpu.generic` is any real model without a price of its own. */
export const gpuSkus = [
  "gpu.simulated",
  "gpu.generic",
  "gpu.a100",
  "gpu.h100",
  "gpu.h200",
] as const;
export type GpuSku = (typeof gpuSkus)[number];

/** Whole words only: a GH200 is no H200 and an A1000 no A100. */
const models: readonly (readonly [RegExp, GpuSku])[] = [
  [/\bH200\b/i, "gpu.h200"],
  [/\bH100\b/i, "gpu.h100"],
  [/\bA100\b/i, "gpu.a100"],
];

/** The stock-keeping unit of one whole GPU. The scheduler (holds, segments) and billing both ask this one function. */
export function skuOf(gpu: GpuForSale): GpuSku {
  if (gpu.simulated) return "gpu.simulated";
  return models.find(([pattern]) => pattern.test(gpu.model))?.[1] ?? "gpu.generic";
}
