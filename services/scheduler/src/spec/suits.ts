import type { Demand } from "@fastgpu/scheduling/plan";

/** Whether a GPU would do for a task, whoever has it now. */
export const suits = (
  gpu: { readonly model: string; readonly memoryMib: number; readonly simulated: boolean },
  demand: Demand,
): boolean =>
  (demand.gpuModels.length === 0 || demand.gpuModels.includes(gpu.model)) &&
  gpu.memoryMib >= demand.gpuMinMemoryMib &&
  (demand.simulatedOk || !gpu.simulated);
