import type { GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import type { PlanGpu, PlanLease, PlanNode } from "@fastgpu/scheduling/plan";
import type { Identity } from "./identity.ts";
import type { FleetNode } from "./inventory.ts";
import type { Attempt } from "./task-run.ts";

/** A GPU of a node that runs. */
export interface GpuRun {
  readonly id: GpuId;
  attempt: Attempt | undefined;
  /** Faults under repair; in service at 0. */
  broken: number;
  reservedFor: TaskId | undefined;
  reservedUntilMs: number;
}

/** What one member of an attempt takes of a node: GPUs by their index. */
interface Held {
  readonly member: number;
  readonly gpus: readonly number[];
}

/** A node in virtual time: what is true of it, and what the scheduler knows. */
export class NodeRun {
  readonly spec: FleetNode;
  readonly index: number;
  readonly id: NodeId;
  readonly gpus: readonly GpuRun[];
  readonly held = new Map<Attempt, Held[]>();
  /** Faults that keep it from the scheduler; reachable at 0. */
  down = 0;
  /** Counts its times out of reach, so that a late lease end knows whether it is still meant. */
  outage = 0;
  /** Drains under way. */
  draining = 0;
  /** Its lease has ended: the scheduler has given it up until it is back. */
  lost = false;
  freeCpuMillis: number;
  freeMemoryMib: number;
  freeDiskMib: number;
  private freshPlan: PlanNode | undefined;
  private readonly topology: Readonly<Record<string, string>>;

  constructor(
    spec: FleetNode,
    index: number,
    ids: { node: Identity<"node">; gpu: Identity<"gpu"> },
  ) {
    this.spec = spec;
    this.index = index;
    this.id = ids.node.of(spec.name);
    this.gpus = Array.from({ length: spec.gpus }, () => ({
      id: ids.gpu.fresh(),
      attempt: undefined,
      broken: 0,
      reservedFor: undefined,
      reservedUntilMs: 0,
    }));
    this.freeCpuMillis = spec.cpuMillis;
    this.freeMemoryMib = spec.memoryMib;
    this.freeDiskMib = spec.diskMib;
    this.topology = {
      ...(spec.rack === undefined ? {} : { rack: spec.rack }),
      ...(spec.nvlink === undefined ? {} : { nvlink: spec.nvlink }),
    };
  }

  /** Whether the scheduler may place there, as far as it knows. */
  get acceptsWork(): boolean {
    return !this.lost && this.draining === 0;
  }

  /** GPUs that could be given out: not broken, on a node that the scheduler has not given up. */
  get inService(): number {
    return this.lost ? 0 : this.gpus.filter((gpu) => gpu.broken === 0).length;
  }

  /** Free GPUs on a node that is partly taken: what whole-node gangs cannot use. */
  get stranded(): number {
    if (this.lost) return 0;
    const free = this.gpus.filter((gpu) => gpu.broken === 0 && gpu.attempt === undefined).length;
    return free < this.inService ? free : 0;
  }

  /** A member of an attempt takes its part. */
  take(attempt: Attempt, held: Held): void {
    for (const at of held.gpus) this.gpus[at]!.attempt = attempt;
    const { demand } = attempt.task.spec;
    this.freeCpuMillis -= demand.cpuMillis;
    this.freeMemoryMib -= demand.memoryMib;
    this.freeDiskMib -= demand.diskMib;
    const list = this.held.get(attempt);
    if (list === undefined) this.held.set(attempt, [held]);
    else list.push(held);
    this.changed();
  }

  /** Everything that an attempt has there is given back. */
  release(attempt: Attempt): void {
    const { demand } = attempt.task.spec;
    for (const { gpus } of this.held.get(attempt) ?? []) {
      for (const at of gpus) this.gpus[at]!.attempt = undefined;
      this.freeCpuMillis += demand.cpuMillis;
      this.freeMemoryMib += demand.memoryMib;
      this.freeDiskMib += demand.diskMib;
    }
    this.held.delete(attempt);
    this.changed();
  }

  /** The planner must see it anew. */
  changed(): void {
    this.freshPlan = undefined;
  }

  /** The node for the planner: the same object as long as nothing of it has changed. */
  plan(): PlanNode {
    this.freshPlan ??= this.toPlan();
    return this.freshPlan;
  }

  private toPlan(): PlanNode {
    const { spec, id, topology } = this;
    return {
      id,
      name: spec.name,
      acceptsWork: this.acceptsWork,
      runtimes,
      cpuMillis: spec.cpuMillis,
      memoryMib: spec.memoryMib,
      diskMib: spec.diskMib,
      topology,
      gpus: this.gpus.map((gpu) => this.toPlanGpu(gpu)),
      running: this.leases(),
    };
  }

  private leases(): readonly PlanLease[] {
    const leases: PlanLease[] = [];
    for (const [attempt, list] of this.held) {
      for (const { member, gpus } of list) {
        leases.push(
          attempt.lease(
            member,
            gpus.map((at) => this.gpus[at]!.id),
          ),
        );
      }
    }
    return leases;
  }

  private toPlanGpu(gpu: GpuRun): PlanGpu {
    return {
      id: gpu.id,
      model: this.spec.model,
      memoryMib: this.spec.gpuMemoryMib,
      simulated: true,
      free: gpu.attempt === undefined && gpu.broken === 0 && !this.lost,
      reservedFor: gpu.reservedFor,
    };
  }
}

const runtimes: readonly string[] = ["container", "process"];
