import type { AttemptId, GpuId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { ExitClass } from "@fastgpu/domain/states";
import type { HeldPart, PlanLease, PlanTask } from "@fastgpu/scheduling/plan";
import type { EventHandle } from "../event-heap.ts";
import type { NodeRun } from "./node-run.ts";
import { gpusOfTask, type FleetTask } from "./workload.ts";

/** Reads the virtual time. */
export type NowMs = () => number;

/** How a task ended. */
export type Outcome = "succeeded" | "failed";

/** A task in virtual time. */
export class TaskRun {
  readonly spec: FleetTask;
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  /** Index of its tenant in the record. */
  readonly tenant: number;
  /** GPUs of one attempt; parts count as such. */
  readonly gpus: number;
  arrived = false;
  epoch = 1;
  /** Elements that wait; for a task that is no array, 1 while it waits. */
  pending = 0;
  /** Elements that have come to their end. */
  ended = 0;
  failedElements = 0;
  readonly attempts = new Set<Attempt>();
  /** Useful run time that is saved. */
  savedMs = 0;
  attainedGpuMs = 0;
  preemptions = 0;
  retries = 0;
  freeRequeues = 0;
  failures = 0;
  excludedGpus: GpuId[] = [];
  notBeforeMs = 0;
  /** Of its waits that are over. */
  queuedBeforeMs = 0;
  queuedSinceMs = 0;
  firstLeaseMs: number | undefined;
  endMs: number | undefined;
  outcome: Outcome | undefined;
  private freshPlan: PlanTask | undefined;

  constructor(spec: FleetTask, of: { id: TaskId; org: OrgId; project: ProjectId; tenant: number }) {
    this.spec = spec;
    this.id = of.id;
    this.org = of.org;
    this.project = of.project;
    this.tenant = of.tenant;
    this.gpus = gpusOfTask(spec);
  }

  /** Attempts that could start beside those that run, each one lease. */
  get leasesLeft(): number {
    const { array } = this.spec;
    const most = array === undefined ? 1 : array.parallelism;
    return Math.max(0, Math.min(this.pending, most - this.attempts.size));
  }

  /** GPUs that it waits for. */
  get waitingGpus(): number {
    return this.leasesLeft * this.gpus;
  }

  /** The planner must see it anew. */
  changed(): void {
    this.freshPlan = undefined;
  }

  /** The task for the planner: the same object as long as it has not changed. */
  plan(): PlanTask {
    this.freshPlan ??= this.toPlan();
    return this.freshPlan;
  }

  private toPlan(): PlanTask {
    const { spec, id, org, project, epoch, preemptions, notBeforeMs, excludedGpus } = this;
    return {
      id,
      org,
      project,
      user: spec.user,
      epoch,
      priority: spec.priority,
      submittedMs: spec.atMs,
      notBeforeMs,
      demand: spec.demand,
      replicas: spec.replicas,
      topology: spec.topology,
      preemptible: spec.preemptible,
      preemptions,
      stopGraceMs: spec.stopGraceMs,
      attainedGpuMs: spec.array === undefined ? this.attainedGpuMs : 0,
      heldMs: Math.max(0, this.queuedSinceMs - spec.atMs - this.queuedBeforeMs),
      maxRuntimeMs: spec.maxRuntimeMs,
      excludedGpus,
      array:
        spec.array === undefined
          ? undefined
          : { pending: this.pending, leasesLeft: this.leasesLeft },
    };
  }
}

/** An attempt in virtual time: a task with all its members, or some elements of an array. */
export class Attempt {
  readonly id: AttemptId;
  readonly task: TaskRun;
  /** By rank; a node may hold several members. */
  readonly nodes: readonly NodeRun[];
  readonly elements: number;
  readonly leasedMs: number;
  /** Saved run time with which it began. */
  readonly savedAtStartMs: number;
  runningMs: number | undefined;
  /** When its restore is over and its work is useful. */
  usefulFromMs = 0;
  /** Processes died unseen at this time: the scheduler hears of it later. */
  deadMs: number | undefined;
  /** Told to stop, with the class that its end will have. */
  stopping: { readonly class: ExitClass; readonly sinceMs: number } | undefined;
  /** Ended while its node was out of reach: the report waits there. */
  unreported: ExitClass | undefined;
  /** The GPU whose fault ends it. */
  faultyGpu: GpuId | undefined;
  /** Its next event, where one is to come. */
  next: EventHandle | undefined;
  ended = false;
  private readonly now: NowMs;

  constructor(of: {
    id: AttemptId;
    task: TaskRun;
    nodes: readonly NodeRun[];
    elements: number;
    now: NowMs;
  }) {
    this.id = of.id;
    this.task = of.task;
    this.nodes = of.nodes;
    this.elements = of.elements;
    this.now = of.now;
    this.leasedMs = of.now();
    this.savedAtStartMs = of.task.savedMs;
  }

  /** Run time that it still needs when it begins, without the restore. */
  get workMs(): number {
    const { spec } = this.task;
    return spec.array === undefined ? spec.runMs - this.savedAtStartMs : spec.runMs * this.elements;
  }

  /** Useful run time that it has done by a time. */
  doneMs(atMs: number): number {
    if (this.runningMs === undefined) return 0;
    return Math.min(this.workMs, Math.max(0, atMs - this.usefulFromMs));
  }

  /** Useful run time of it that its periodic checkpoints hold; of an array that of its finished elements. */
  keptMs(atMs: number): number {
    const { array, runMs, checkpointMs } = this.task.spec;
    const doneMs = this.doneMs(atMs);
    const stepMs = array === undefined ? checkpointMs : runMs;
    if (doneMs >= this.workMs) return doneMs;
    return Number.isFinite(stepMs) ? Math.floor(doneMs / stepMs) * stepMs : 0;
  }

  /** What one member holds, for the planner: these GPUs, or a part of each. */
  lease(member: number, gpus: readonly GpuId[], part: HeldPart | undefined): PlanLease {
    const { task } = this;
    const { spec } = task;
    const saved = (): number | undefined => {
      const keptMs = this.keptMs(this.now());
      return keptMs > 0 ? this.usefulFromMs + keptMs : undefined;
    };
    return {
      attempt: this.id,
      member,
      task: task.id,
      org: task.org,
      project: task.project,
      user: spec.user,
      cpuMillis: spec.demand.cpuMillis,
      memoryMib: spec.demand.memoryMib,
      diskMib: spec.demand.diskMib,
      gpus,
      ...(part === undefined ? {} : { part }),
      priority: spec.priority,
      submittedMs: spec.atMs,
      heldSinceMs: this.leasedMs,
      runningSinceMs: this.runningMs,
      // Moves with each checkpoint: read when the planner asks, instead of an event for each.
      get savedMs() {
        return saved();
      },
      attainedGpuMs: spec.array === undefined ? task.attainedGpuMs : 0,
      preemptions: task.preemptions,
      preemptible: spec.preemptible,
      stopping: this.stopping !== undefined,
      endsByMs: (this.runningMs ?? this.leasedMs) + spec.maxRuntimeMs * this.elements,
      ...(spec.array === undefined ? {} : { turns: this.elements }),
    };
  }
}
