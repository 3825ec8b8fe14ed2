import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { MigGeometryName } from "./placement/mig.ts";
import type { IsolationGrade } from "./placement/shapes.ts";

/** Grades under which one organisation's tasks share a GPU, strongest first: dmem_mps, dmem_timeslice, mps, timeslice. */
export type SharedGrade = Exclude<IsolationGrade, "exclusive" | "mig">;

/** A part of each GPU that is asked for, in place of GPUs alone. */
export type GpuPart =
  | {
      /** A share of a GPU that tasks of the same organisation may share. */
      readonly kind: "share";
      /** Thousandths of the GPU's compute, 1–999. */
      readonly milli: number;
      /** Weakest isolation that is accepted. */
      readonly weakest: SharedGrade;
    }
  | {
      /** A MIG instance: anybody's may lie on the same GPU. */
      readonly kind: "mig";
      /** `MigProfile.id`, for example `h100-80/3g.40gb`. */
      readonly profile: string;
    };

/** What is held of each of some GPUs, in place of all of it. */
export type HeldPart =
  | {
      readonly kind: "share";
      readonly milli: number;
      /** GPU memory that is its own; 0: none in particular. */
      readonly memoryMib: number;
      /** The weakest isolation of these GPUs. */
      readonly grade: SharedGrade;
    }
  | {
      readonly kind: "mig";
      readonly profile: string;
      /** First memory slice on each of the GPUs, in their order. */
      readonly starts: readonly number[];
      readonly grade: "mig";
    };

/** How a GPU is given out: whole, in shares with a grade of isolation between them, or in MIG instances. */
export type GpuMode =
  | { readonly isolation: "exclusive" | SharedGrade }
  | { readonly isolation: "mig"; readonly geometry: MigGeometryName };

/** What one attempt, or each member of a gang's, needs of a node. */
export interface Demand {
  readonly runtime: "container" | "process";
  readonly gpuCount: number;
  /** Models that will do, best first; empty: any. */
  readonly gpuModels: readonly string[];
  /** Memory that each GPU must have; of a share: that it takes of each GPU; of a MIG instance: that each must have. */
  readonly gpuMinMemoryMib: number;
  /** Part of each GPU; absent: GPUs alone, which are the whole of GPUs in any mode but MIG. */
  readonly part?: GpuPart | undefined;
  readonly simulatedOk: boolean;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

/** How the members of a gang may lie to one another. Without any wish they may lie anywhere. */
export interface Topology {
  /** All members within one node, NVLink domain or rack; nodes without such a place do not do. */
  readonly within?: "node" | "nvlink" | "rack";
  /** No two members on one node, or in one rack. */
  readonly spreadOver?: "node" | "rack";
}

/** A GPU as the planner sees it. */
export interface PlanGpu {
  readonly id: GpuId;
  readonly model: string;
  readonly memoryMib: number;
  readonly simulated: boolean;
  /** Absent: exclusive. */
  readonly mode?: GpuMode | undefined;
  /**
   * False where it is leased, unknown, being cleaned or out of use. Where parts of it are leased: whether it gives out
   * what is left.
   */
  readonly free: boolean;
  /** Freed (or about to be) by a preemption for this task: nobody else may take it. */
  readonly reservedFor: TaskId | undefined;
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
  /** Places that contain the node by kind, e.g. `{nvlink: "nv-3", rack: "r-12"}`. */
  readonly topology: Readonly<Record<string, string>>;
  /** What holds its resources. */
  readonly running: readonly PlanLease[];
}

/** What one member of a running attempt holds of a node. */
export interface PlanLease {
  readonly attempt: AttemptId;
  /** Rank in its gang, from 0; 0 for a plain task. */
  readonly member: number;
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The principal who submitted it; "" where unknown. */
  readonly user: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly gpus: readonly GpuId[];
  /** What it holds of each of its GPUs; absent: all of it. */
  readonly part?: HeldPart | undefined;
  readonly priority: number;
  readonly submittedMs: number;
  /** When it was leased. */
  readonly heldSinceMs: number;
  /** Since when it runs; undefined before that. */
  readonly runningSinceMs: number | undefined;
  /** The last checkpoint that it told of; undefined: none in this attempt. */
  readonly savedMs: number | undefined;
  /** Service of earlier attempts of its lineage, in GPU-milliseconds. */
  readonly attainedGpuMs: number;
  /** Preemptions of its lineage so far. */
  readonly preemptions: number;
  /** Whether it can be stopped and goes on from its checkpoint in a new attempt. */
  readonly preemptible: boolean;
  /** It was told to stop: it is no victim, and what it holds is about to be free. */
  readonly stopping: boolean;
  /** Latest expected end: its start and its longest run time; Infinity where it has none. */
  readonly endsByMs: number;
  /** Only of an array's lease: elements that it runs one after the other. Their run times are not predicted. */
  readonly turns?: number;
}

/** A waiting task, or the waiting part of an array. */
export interface PlanTask {
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The principal who submitted it; "" where unknown. */
  readonly user: string;
  readonly epoch: number;
  readonly priority: number;
  readonly submittedMs: number;
  /** Not before this time (the pause before a retry). */
  readonly notBeforeMs: number;
  /** What each member needs of a node. */
  readonly demand: Demand;
  /** Members of a gang, which start together or not at all; 1: a plain task. */
  readonly replicas: number;
  readonly topology: Topology;
  /** Whether it can be stopped and goes on from its checkpoint in a new attempt. Others are never victims. */
  readonly preemptible: boolean;
  /** Preemptions of its lineage so far. */
  readonly preemptions: number;
  /** Time between its stop signal and the kill, in milliseconds. */
  readonly stopGraceMs: number;
  /** Service that earlier attempts of its lineage had, in GPU-milliseconds; 0 for an array. */
  readonly attainedGpuMs: number;
  /** How long earlier attempts of it held their resources, in milliseconds: what it has not queued since its submit. */
  readonly heldMs: number;
  /** Longest time that one attempt (of an array: one element) may run; Infinity for no limit. */
  readonly maxRuntimeMs: number;
  readonly excludedGpus: readonly GpuId[];
  /** For an array: elements that wait, and how many more leases may run at once. */
  readonly array: { readonly pending: number; readonly leasesLeft: number } | undefined;
}

/** Fields of a task that is nothing special: one member, any place, never stopped for others, no past, no end. */
export const plainTask = {
  user: "",
  replicas: 1,
  topology: {},
  preemptible: false,
  preemptions: 0,
  attainedGpuMs: 0,
  heldMs: 0,
  maxRuntimeMs: Number.POSITIVE_INFINITY,
} as const satisfies Partial<PlanTask>;

/**
 * What an organisation, one of its projects, or a user there, is due. Who has none has weight 1, no guarantee and no limit.
 * A share of a GPU counts by its thousandths of compute, a MIG instance by its part of the memory slices.
 */
export interface PlanQueue {
  readonly org: OrgId;
  /** Undefined: the organisation's own, among all organisations. */
  readonly project: ProjectId | undefined;
  /** Only with a project; undefined: the project's (or organisation's) own. */
  readonly user: string | undefined;
  /** Relative part of what the parent gets, at least 1. */
  readonly weight: number;
  /** GPUs it gets before others whenever it has work for them. */
  readonly guaranteedGpus: number;
  /** GPUs it never holds more of; undefined: no limit. At least the guaranteed ones. */
  readonly limitGpus: number | undefined;
  /** The same for GPUs of one model. */
  readonly models: Readonly<
    Record<string, { readonly guaranteedGpus: number; readonly limitGpus: number | undefined }>
  >;
}

/** Service that a user of a project has had, as of the state's time: older service counts less. */
export interface PlanUsage {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
  /** Σ over its GPU-milliseconds of 2^(−age / half-life of the policy); of a part of a GPU that part. */
  readonly gpuMs: number;
}

/** GPUs kept for an organisation, or one of its projects, for a time in the future. */
export interface PlanReservation {
  readonly id: string;
  readonly org: OrgId;
  readonly project: ProjectId | undefined;
  readonly gpus: number;
  /** So many of them on one node each: a divisor of `gpus`. Absent: wherever they lie. */
  readonly perNode?: number | undefined;
  /** Models that will do; empty: any. */
  readonly models: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
}

/** Tasks of one leaf that wait behind those that a plan looks at: they count as wanted, and none starts in this plan. */
export interface PlanWanted {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
  /** How many. */
  readonly tasks: number;
  /** GPUs that they want together; parts count as such, in thousandths. */
  readonly gpus: number;
  /** CPU that those without GPUs want together, in thousandths of a core. */
  readonly cpuMillis: number;
}

/** How long runs of one kind have lasted. */
export interface PlanRunTimes {
  /** The kind; see order/run-times.ts. */
  readonly id: string;
  /** Half of such runs ended by then, in milliseconds. */
  readonly p50Ms: number;
  /** Nine in ten ended by then, in milliseconds. */
  readonly p90Ms: number;
}

/** What the run times of its like say of a task that has run, see order/ranks.ts. */
export interface PlanRank {
  readonly id: TaskId;
  /** Expected run time until an end over the chance of it, at the best time to look: lower goes first. In milliseconds. */
  readonly rankMs: number;
}

/** One snapshot of everything that a plan depends on. */
export interface PlanState {
  readonly nodes: readonly PlanNode[];
  /** The first tasks of every line (queue × needs); all tasks where they are few. */
  readonly tasks: readonly PlanTask[];
  /** What waits behind `tasks`; default: nothing. */
  readonly behind?: readonly PlanWanted[];
  /** Who is in none of them has weight 1, no guarantee and no limit. */
  readonly queues: readonly PlanQueue[];
  readonly usage: readonly PlanUsage[];
  readonly reservations: readonly PlanReservation[];
  /** What is known of run times, for backfill; default: nothing. */
  readonly runTimes?: readonly PlanRunTimes[];
  /** Of tasks that have run and can be stopped, those that are known; default: none. */
  readonly ranks?: readonly PlanRank[];
}

/** Where one member of an attempt goes. */
export interface MemberPlace {
  readonly node: NodeId;
  readonly gpus: readonly GpuId[];
  /** What it gets of each of them, and under which grade; absent: all of it. */
  readonly part?: HeldPart | undefined;
}

/** One attempt to lease: a task with all its members, or `elements` of an array. */
export interface Placement {
  readonly task: PlanTask;
  /** For an array: number of elements that the lease takes, at most {@link maxElementsPerLease}. */
  readonly elements: number;
  /** Member i has rank i; one for a plain task. */
  readonly members: readonly MemberPlace[];
}

/** Every GPU that a placement takes, member by member. */
export const gpusOfPlacement = (placement: Placement): readonly GpuId[] =>
  placement.members.flatMap(({ gpus }) => gpus);

/** An attempt to stop, with all its members, in favour of a task. */
export interface Preemption {
  readonly victim: AttemptId;
  readonly victimTask: TaskId;
  readonly reservedFor: TaskId;
  /** Those of the victim's GPUs that only the preemptor may take once they are free. */
  readonly gpus: readonly GpuId[];
  /**
   * What else the preemptor's place takes, told once of its victims: kept for it too, as far as nobody has come before.
   * Absent: nothing, or it asks for parts of GPUs.
   */
  readonly beside?: readonly { readonly node: NodeId; readonly gpus: readonly GpuId[] }[];
  /**
   * Where the victim goes on at once: idle GPUs that are kept for its task until then, without which it is not stopped.
   * Absent: it queues again.
   */
  readonly movesTo?: MemberPlace;
  /** Why, in words for the victim's owner. */
  readonly message: string;
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
  /** Promised starts of tasks at the head of the line that wait for room: latest times, in ms. */
  readonly starts: ReadonlyMap<TaskId, number>;
  /** Starts of those at the head to whom nothing is promised yet, by expected run times, in ms. */
  readonly expected: ReadonlyMap<TaskId, number>;
  /** Consolidation: moves that would free whole nodes. Proposals, committed by nobody. */
  readonly moves: readonly PlanMove[];
}

/** A running attempt that would better run elsewhere. */
export interface PlanMove {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly from: NodeId;
  readonly to: MemberPlace;
}

/** Greatest number of array elements in one lease. */
export const maxElementsPerLease = 1_000;

/** Uniform in [0, 1). Seeded by the caller, so that a plan can be replayed. */
export type Rng = () => number;
