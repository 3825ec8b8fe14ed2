import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";

/** What one attempt needs of a node. */
export interface Demand {
  readonly runtime: "container" | "process";
  readonly gpuCount: number;
  /** Models that will do, best first; empty: any. */
  readonly gpuModels: readonly string[];
  readonly gpuMinMemoryMib: number;
  readonly simulatedOk: boolean;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

/** A GPU as the planner sees it. */
export interface PlanGpu {
  readonly id: GpuId;
  readonly model: string;
  readonly memoryMib: number;
  readonly simulated: boolean;
  /** False where it is leased, unknown, being cleaned or out of use. */
  readonly free: boolean;
}

/** A node as the planner sees it: capacities, and what runs on it. A changed node is a new object. */
export interface PlanNode {
  readonly id: NodeId;
  /** Ties between equal nodes go to the lower name. */
  readonly name: string;
  /** False where it is lost or drains. */
  readonly acceptsWork: boolean;
  readonly runtimes: readonly string[];
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly gpus: readonly PlanGpu[];
  /** What holds its resources. */
  readonly running: readonly {
    /** Whose it is; without it, it counts for no queue. */
    readonly org?: OrgId;
    readonly project?: ProjectId;
    readonly cpuMillis: number;
    readonly memoryMib: number;
    readonly diskMib: number;
    readonly gpus: readonly GpuId[];
  }[];
}

/** A waiting task, or the waiting part of an array. */
export interface PlanTask {
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly epoch: number;
  readonly priority: number;
  readonly submittedMs: number;
  /** Not before this time (the pause before a retry). */
  readonly notBeforeMs: number;
  readonly demand: Demand;
  /** Time between its stop signal and the kill, in milliseconds. */
  readonly stopGraceMs: number;
  /** Service that earlier attempts of the task had, in GPU-milliseconds; default 0, as for an array. */
  readonly attainedGpuMs?: number;
  readonly excludedGpus: readonly GpuId[];
  /** Trace context of the task, carried through to its leases. */
  readonly traceparent: string;
  /** For an array: elements that wait, and how many more leases may run at once. */
  readonly array: { readonly pending: number; readonly leasesLeft: number } | undefined;
}

/** What an organisation, or one of its projects, is due. Who has none has weight 1, no guarantee and no limit. */
export interface PlanQueue {
  readonly org: OrgId;
  /** Undefined: the organisation's own, among all organisations. */
  readonly project: ProjectId | undefined;
  /** Relative part of what the parent gets, at least 1. */
  readonly weight: number;
  /** GPUs it gets before others whenever it has work for them. */
  readonly guaranteedGpus: number;
  /** GPUs it never holds more of; undefined: no limit. At least the guaranteed ones. */
  readonly limitGpus: number | undefined;
}

/** One snapshot of everything that a plan depends on. */
export interface PlanState {
  readonly nodes: readonly PlanNode[];
  readonly tasks: readonly PlanTask[];
  /** Default: everybody has weight 1. */
  readonly queues?: readonly PlanQueue[];
}

/** One lease to make: a task, or `elements` of an array, on one node. */
export interface Placement {
  readonly task: PlanTask;
  readonly node: NodeId;
  readonly gpus: readonly GpuId[];
  /** For an array: number of elements that the lease takes, at most {@link maxElementsPerLease}. */
  readonly elements: number;
}

/** An attempt to stop in favour of a task. */
export interface Preemption {
  readonly victim: AttemptId;
  readonly reservedFor: TaskId;
}

/** Why a task was not placed; the counts are of nodes that failed each check. */
export interface WaitReason {
  readonly reason: "UNSATISFIABLE" | "NO_CAPACITY" | "QUOTA_EXCEEDED" | "RETRY_BACKOFF";
  readonly message: string;
}

/** Decisions of one cycle, as data: the service commits them by compare-and-set. */
export interface Plan {
  readonly placements: readonly Placement[];
  readonly preemptions: readonly Preemption[];
  readonly reasons: ReadonlyMap<TaskId, WaitReason>;
}

/** Greatest number of array elements in one lease. */
export const maxElementsPerLease = 1_000;

/** Uniform in [0, 1). Seeded by the caller, so that a plan can be replayed. */
export type Rng = () => number;
