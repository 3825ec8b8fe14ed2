import type { AttemptId, GpuId } from "@fastgpu/domain/ids";
import type { PlanLease, PlanNode, PlanTask } from "../plan.ts";

/** The node once a member of a task holds these of its GPUs, from a time on. */
export function withLease(
  node: PlanNode,
  task: PlanTask,
  at: { gpus: readonly GpuId[]; nowMs: number; member?: number; attempt?: AttemptId },
): PlanNode {
  const { gpus, nowMs } = at;
  const { cpuMillis, memoryMib, diskMib } = task.demand;
  const lease: PlanLease = {
    // The one attempt of the task that is thought to run.
    attempt: at.attempt ?? (task.id.replace(/^task-/, "att-") as AttemptId),
    member: at.member ?? 0,
    task: task.id,
    org: task.org,
    project: task.project,
    user: task.user,
    cpuMillis,
    memoryMib,
    diskMib,
    gpus,
    priority: task.priority,
    submittedMs: task.submittedMs,
    heldSinceMs: nowMs,
    runningSinceMs: nowMs,
    savedMs: undefined,
    attainedGpuMs: task.attainedGpuMs,
    preemptions: task.preemptions,
    preemptible: task.preemptible,
    stopping: false,
    endsByMs: nowMs + task.maxRuntimeMs,
  };
  return {
    ...node,
    gpus: node.gpus.map((gpu) => (gpus.includes(gpu.id) ? { ...gpu, free: false } : gpu)),
    running: [...node.running, lease],
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
