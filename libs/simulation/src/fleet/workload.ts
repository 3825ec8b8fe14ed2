import type { ExitClass } from "@fastgpu/domain/states";
import { milliOfDemand } from "@fastgpu/scheduling/gpu-part";
import type { Demand, Topology } from "@fastgpu/scheduling/plan";

/** A failure of its own that a simulated task runs into. */
export interface TaskFailure {
  readonly class: ExitClass;
  /** Run time of the attempt after which it fails, in milliseconds. */
  readonly afterMs: number;
  /** Attempts that fail so; the next one succeeds. */
  readonly times: number;
}

/**
 * A task of a workload. Organisation, project and user are names; a name that is a well-formed id is kept as the id, so
 * that a workload cut from a recording meets its queues again. The planner never sees the run time.
 */
export interface FleetTask {
  /** A task id is kept as such, if it is unique. */
  readonly name: string;
  readonly atMs: number;
  readonly org: string;
  readonly project: string;
  readonly user: string;
  /** What each member needs of a node. */
  readonly demand: Demand;
  /** Members of a gang; 1: a plain task. */
  readonly replicas: number;
  readonly topology: Topology;
  /** Elements of an array; undefined: no array. */
  readonly array: { readonly elements: number; readonly parallelism: number } | undefined;
  readonly priority: number;
  /** Run time without any interruption, of an array that of one element, in milliseconds. Hidden from the planner. */
  readonly runMs: number;
  /** Longest run time of one attempt that the owner states; Infinity: none. */
  readonly maxRuntimeMs: number;
  readonly preemptible: boolean;
  /** Useful run time between two checkpoints; Infinity: none but on the stop signal. */
  readonly checkpointMs: number;
  /** Whether it saves its state on the stop signal, within the grace time. */
  readonly savesOnStop: boolean;
  readonly stopGraceMs: number;
  readonly maxRetries: number;
  readonly failure: TaskFailure | undefined;
}

/** What an organisation, project or user is due, by name; the planner's `PlanQueue` in a workload. */
export interface FleetQueue {
  readonly org: string;
  readonly project?: string | undefined;
  readonly user?: string | undefined;
  readonly weight: number;
  readonly guaranteedGpus?: number;
  readonly limitGpus?: number | undefined;
  readonly models?: Readonly<
    Record<string, { readonly guaranteedGpus: number; readonly limitGpus: number | undefined }>
  >;
}

/** GPUs kept for somebody for a time, by name. */
export interface FleetReservation {
  readonly name: string;
  readonly org: string;
  readonly project?: string | undefined;
  readonly gpus: number;
  /** So many of them on one node each. */
  readonly perNode?: number | undefined;
  readonly models?: readonly string[];
  readonly startMs: number;
  readonly endMs: number;
}

/** What arrives at a fleet. */
export interface FleetWorkload {
  readonly name: string;
  /** By arrival. */
  readonly tasks: readonly FleetTask[];
  readonly queues: readonly FleetQueue[];
  readonly reservations: readonly FleetReservation[];
  /** What a reader of the report must know of how the workload was made, a sentence each. */
  readonly notes: readonly string[];
}

/** Half an hour between two checkpoints, where a workload says nothing. */
export const usualCheckpointMs = 1_800_000;

/** A demand of whole GPUs; nothing else of it matters much. */
export const plainDemand: Demand = {
  runtime: "container",
  gpuCount: 1,
  gpuModels: [],
  gpuMinMemoryMib: 0,
  simulatedOk: true,
  cpuMillis: 1_000,
  memoryMib: 1_024,
  diskMib: 0,
};

/** Fields of a task that is nothing special: one member, one GPU, an hour, saves every half hour and on a stop. */
export const plainFleetTask: FleetTask = {
  name: "",
  atMs: 0,
  org: "org",
  project: "project",
  user: "",
  demand: plainDemand,
  replicas: 1,
  topology: {},
  array: undefined,
  priority: 0,
  runMs: 3_600_000,
  maxRuntimeMs: Number.POSITIVE_INFINITY,
  preemptible: false,
  checkpointMs: usualCheckpointMs,
  savesOnStop: true,
  stopGraceMs: 30_000,
  maxRetries: 3,
  failure: undefined,
};

/** Brings tasks into the order of their arrival; those of one time stay in the order given. */
export function byArrival(tasks: readonly FleetTask[]): readonly FleetTask[] {
  return tasks.toSorted((a, b) => a.atMs - b.atMs);
}

/** GPUs that the task holds when it runs, a part of one as such: of an array those of one lease. */
export const gpusOfTask = (task: FleetTask): number =>
  (task.replicas * milliOfDemand(task.demand)) / 1000;
