import type { AttemptId, GpuId, TaskId } from "@fastgpu/domain/ids";
import type { HeldPart, PlanGpu, PlanLease, PlanNode, PlanTask } from "../plan.ts";

/** The node once a member of a task holds these of its GPUs, or a part of each, from a time on. */
export function withLease(
  node: PlanNode,
  task: PlanTask,
  at: {
    gpus: readonly GpuId[];
    /** Default: all of each. */
    part?: HeldPart | undefined;
    nowMs: number;
    /** Default: its longest run time from now. */
    endsByMs?: number;
    /** Default: one made of the task's id. */
    attempt?: AttemptId;
    member?: number;
  },
): PlanNode {
  const { gpus, part, nowMs } = at;
  const { cpuMillis, memoryMib, diskMib } = task.demand;
  const lease: PlanLease = {
    attempt: at.attempt ?? (task.id.replace(/^task-/, "att-") as AttemptId),
    member: at.member ?? 0,
    task: task.id,
    org: task.org,
    project: task.project,
    user: task.user,
    ...{ cpuMillis, memoryMib, diskMib, gpus },
    ...(part === undefined ? {} : { part }),
    priority: task.priority,
    submittedMs: task.submittedMs,
    heldSinceMs: nowMs,
    runningSinceMs: nowMs,
    savedMs: undefined,
    attainedGpuMs: task.attainedGpuMs,
    preemptions: task.preemptions,
    preemptible: task.preemptible,
    stopping: false,
    endsByMs: at.endsByMs ?? nowMs + task.maxRuntimeMs,
  };
  return {
    ...(part === undefined
      ? withGpus(node, new Set(gpus), { free: false, reservedFor: undefined })
      : node),
    running: [...node.running, lease],
  };
}

/** The node once an attempt has left it. */
export function withoutAttempt(node: PlanNode, attempt: AttemptId): PlanNode {
  const ended = node.running.filter((lease) => lease.attempt === attempt);
  if (ended.length === 0) return node;
  return {
    ...withGpus(node, wholeOf(ended), { free: true }),
    running: node.running.filter((lease) => lease.attempt !== attempt),
  };
}

/** The node once the lease at this position of `running` has ended. */
export function withoutLease(node: PlanNode, at: number): PlanNode {
  const lease = node.running[at];
  if (lease === undefined) return node;
  return {
    ...withGpus(node, wholeOf([lease]), { free: true }),
    running: node.running.filter((_, index) => index !== at),
  };
}

/** The node once an attempt was told to stop, and some of its GPUs are kept for a task. */
export function withStopping(
  node: PlanNode,
  attempt: AttemptId,
  of: { endsByMs: number; gpus: readonly GpuId[]; reservedFor: TaskId },
): PlanNode {
  const { endsByMs, gpus, reservedFor } = of;
  return {
    ...withGpus(node, new Set(gpus), { reservedFor }),
    running: node.running.map((lease) =>
      lease.attempt === attempt ? { ...lease, stopping: true, endsByMs } : lease,
    ),
  };
}

/** The node once some of its GPUs are kept for a task. */
export const withReserved = (node: PlanNode, gpus: readonly GpuId[], task: TaskId): PlanNode =>
  withGpus(node, new Set(gpus), { reservedFor: task });

/** The node once nothing of it is kept for a task any more. */
export function withoutReserved(node: PlanNode, task: TaskId): PlanNode {
  const kept = node.gpus.filter((gpu) => gpu.reservedFor === task).map(({ id }) => id);
  return withGpus(node, new Set(kept), { reservedFor: undefined });
}

/** The node once every lease has ended: what is unknown, being cleaned or out of use stays so. */
export function withoutLeases(node: PlanNode): PlanNode {
  const { running } = node;
  const unreserved = withGpus(node, new Set(running.flatMap(({ gpus }) => gpus)), {
    reservedFor: undefined,
  });
  return { ...withGpus(unreserved, wholeOf(running), { free: true }), running: [] };
}

/** GPUs that these hold as a whole: what is left of others is free, or is not, whoever goes. */
const wholeOf = (leases: readonly PlanLease[]): ReadonlySet<GpuId> =>
  new Set(leases.flatMap(({ gpus, part }) => (part === undefined ? gpus : [])));

function withGpus(node: PlanNode, ids: ReadonlySet<GpuId>, over: Partial<PlanGpu>): PlanNode {
  if (ids.size === 0) return node;
  return { ...node, gpus: node.gpus.map((gpu) => (ids.has(gpu.id) ? { ...gpu, ...over } : gpu)) };
}
