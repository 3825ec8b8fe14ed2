import { NodeCheck } from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import type { BlockCheck, TaskFit } from "@fastgpu/scheduling/explain/blockers";
import type { RemedyField } from "@fastgpu/scheduling/explain/dimension";
import type { Demand, GpuPart, PlanTask } from "@fastgpu/scheduling/plan";

const checks: Readonly<Record<BlockCheck, readonly [NodeCheck, (demand: Demand) => string]>> = {
  node_unschedulable: [NodeCheck.UNSCHEDULABLE, () => "take no work: lost or draining"],
  runtime: [NodeCheck.RUNTIME, (demand) => `do not run tasks as a ${demand.runtime}`],
  gpu_count: [NodeCheck.GPU_COUNT, (demand) => `have fewer than ${gpuText(demand.gpuCount)}`],
  gpu_model: [
    NodeCheck.GPU_MODEL,
    (demand) => `have too few GPUs of the model ${demand.gpuModels.join(" or ")}`,
  ],
  gpu_model_mixed: [NodeCheck.GPU_MODEL_MIXED, () => "have enough GPUs only of different models"],
  gpu_simulated: [NodeCheck.GPU_SIMULATED, () => "have too few GPUs that are not simulated"],
  gpu_memory: [
    NodeCheck.GPU_MEMORY,
    (demand) => `have too few GPUs with ${demand.gpuMinMemoryMib} MiB`,
  ],
  gpu_isolation: [NodeCheck.GPU_ISOLATION, () => "keep tenants apart too weakly"],
  gpu_mig: [NodeCheck.GPU_MIG, () => "give out their GPUs in other instances"],
  gpu_shared_with_other_tenant: [
    NodeCheck.GPU_SHARED_WITH_OTHER_TENANT,
    () => "share their GPUs with another organisation",
  ],
  gpu_busy: [NodeCheck.GPU_BUSY, () => "have their GPUs busy"],
  gpu_excluded: [NodeCheck.GPU_EXCLUDED, () => "have only GPUs on which this task failed"],
  cpu: [NodeCheck.CPU, (demand) => `have less than ${coresText(demand.cpuMillis)} free`],
  memory: [NodeCheck.MEMORY, (demand) => `have less than ${demand.memoryMib} MiB free`],
  disk: [NodeCheck.DISK, (demand) => `have less than ${demand.diskMib} MiB of disk free`],
};

/** The check on the wire. */
export function checkToWire(check: BlockCheck): NodeCheck {
  return checks[check][0];
}

/** `2 of 3 nodes have their GPUs busy` */
export function describeBlocker(
  { check, nodes }: TaskFit["blockers"][number],
  total: number,
  demand: Demand,
): string {
  return `${nodes} of ${total} nodes ${checks[check][1](demand)}`;
}

/** `1 GPU`, `4 GPUs` */
export function gpuText(count: number): string {
  return `${count} GPU${count === 1 ? "" : "s"}`;
}

/** `1 core`, `0.5 cores` */
function coresText(cpuMillis: number): string {
  return `${cpuMillis / 1000} core${cpuMillis === 1000 ? "" : "s"}`;
}

function partText(part: GpuPart | undefined): string {
  if (part === undefined) return "whole GPUs";
  return part.kind === "mig" ? `the MIG instance ${part.profile}` : `${part.milli / 10} % of a GPU`;
}

interface FieldOnWire {
  readonly path: string;
  value(task: PlanTask): unknown;
  say(task: PlanTask): string;
}

/** Where fields of a task stand in Task, and how a change of them reads. int64 is text in JSON. */
const fields: Readonly<Record<RemedyField, FieldOnWire>> = {
  gpuModels: {
    path: "spec.resources.gpu.models",
    value: ({ demand }) => demand.gpuModels,
    say: ({ demand }) => `accept the model ${demand.gpuModels.at(-1) ?? ""}`,
  },
  gpuCount: {
    path: "spec.resources.gpu.count",
    value: ({ demand }) => demand.gpuCount,
    say: ({ demand }) => `ask for ${gpuText(demand.gpuCount)}`,
  },
  replicas: {
    path: "spec.replicas",
    value: ({ replicas }) => replicas,
    say: ({ replicas }) => `ask for ${replicas} replica${replicas === 1 ? "" : "s"}`,
  },
  topology: {
    path: "spec.topology",
    value: () => null,
    say: () => "let the replicas run anywhere",
  },
  gpuMinMemoryMib: {
    path: "spec.resources.gpu.min_memory_mib",
    value: ({ demand }) => String(demand.gpuMinMemoryMib),
    say: ({ demand }) => `ask for GPUs with ${demand.gpuMinMemoryMib} MiB`,
  },
  // Tasks cannot ask for parts of GPUs yet (docs/api-plan.md), so nobody is told of the next two.
  gpuPart: {
    path: "spec.resources.gpu.share",
    value: ({ demand }) => demand.part ?? null,
    say: ({ demand }) => `ask for ${partText(demand.part)}`,
  },
  isolation: {
    path: "spec.resources.gpu.min_isolation",
    value: ({ demand }) => demand.part ?? null,
    say: ({ demand }) =>
      demand.part?.kind === "share"
        ? `accept a share of a GPU that is kept apart by ${demand.part.weakest}`
        : `ask for ${partText(demand.part)}`,
  },
  simulatedOk: {
    path: "spec.simulated",
    value: () => "SIMULATED_POLICY_ALLOW",
    say: () => "allow simulated GPUs",
  },
  cpuMillis: {
    path: "spec.resources.cpu_millis",
    value: ({ demand }) => String(demand.cpuMillis),
    say: ({ demand }) => `ask for ${coresText(demand.cpuMillis).replace("core", "CPU core")}`,
  },
  memoryMib: {
    path: "spec.resources.memory_mib",
    value: ({ demand }) => String(demand.memoryMib),
    say: ({ demand }) => `ask for ${demand.memoryMib} MiB of memory`,
  },
  diskMib: {
    path: "spec.resources.disk_mib",
    value: ({ demand }) => String(demand.diskMib),
    say: ({ demand }) => `ask for ${demand.diskMib} MiB of disk`,
  },
  priority: {
    path: "spec.priority",
    value: ({ priority }) => priority,
    say: ({ priority }) => `give it priority ${priority}`,
  },
  maxRuntimeMs: {
    path: "spec.max_runtime",
    value: ({ maxRuntimeMs }) => `${maxRuntimeMs / 1000}s`,
    say: ({ maxRuntimeMs }) =>
      `let it run for at most ${spanInWords(maxRuntimeMs)}, to end before what is kept for others`,
  },
  preemptible: {
    path: "spec.preemptible",
    value: ({ preemptible }) => preemptible,
    say: () =>
      "make it preemptible, so that it saves its state and can be stopped (GPUs that are reserved are then lent to it " +
      "until their owner has work for them)",
  },
};

/** The fields with the values that a changed task gives them. */
export function fieldChanges(changed: readonly RemedyField[], task: PlanTask) {
  return changed.map((field) => ({
    fieldPath: fields[field].path,
    valueJson: JSON.stringify(fields[field].value(task)),
  }));
}

/** `ask for 2 GPUs and allow simulated GPUs` */
export function describeChange(changed: readonly RemedyField[], task: PlanTask): string {
  return changed.map((field) => fields[field].say(task)).join(" and ");
}

/** `45s`, `10m`, `2h 30m`, `3d 4h` */
export function spanInWords(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const units = [
    ["d", 86_400],
    ["h", 3_600],
    ["m", 60],
    ["s", 1],
  ] as const;
  const parts: string[] = [];
  let left = seconds;
  for (const [unit, size] of units) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.slice(0, 2).join(" ") || "0s";
}
