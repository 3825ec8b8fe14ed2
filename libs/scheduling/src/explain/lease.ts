import type { GpuId } from "@fastgpu/domain/ids";
import type { Demand, PlanNode } from "../plan.ts";

/** The node once a task with this demand holds these of its GPUs. */
export function withLease(node: PlanNode, demand: Demand, gpus: readonly GpuId[]): PlanNode {
  const { cpuMillis, memoryMib, diskMib } = demand;
  return {
    ...node,
    gpus: node.gpus.map((gpu) => (gpus.includes(gpu.id) ? { ...gpu, free: false } : gpu)),
    running: [...node.running, { cpuMillis, memoryMib, diskMib, gpus }],
  };
}

/** The node once the lease at this position of `running` has ended. */
export function withoutLease(node: PlanNode, at: number): PlanNode {
  const ended = node.running[at]?.gpus ?? [];
  return {
    ...node,
    gpus: node.gpus.map((gpu) => (ended.includes(gpu.id) ? { ...gpu, free: true } : gpu)),
    running: node.running.filter((_, index) => index !== at),
  };
}

/** The node once every lease has ended: what is unknown, being cleaned or out of use stays so. */
export function withoutLeases(node: PlanNode): PlanNode {
  const leased = new Set(node.running.flatMap(({ gpus }) => gpus));
  return {
    ...node,
    gpus: node.gpus.map((gpu) => (leased.has(gpu.id) ? { ...gpu, free: true } : gpu)),
    running: [],
  };
}
