import type { GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { milliOfPart } from "@fastgpu/scheduling/gpu-part";
import type { HeldPart, PlanGpu, PlanLease, PlanNode } from "@fastgpu/scheduling/plan";
import type { Identity } from "./identity.ts";
import type { FleetNode } from "./inventory.ts";
import type { Attempt } from "./task-run.ts";

/** Who holds a GPU, or a part of it. */
export interface GpuHolder {
  readonly attempt: Attempt;
  /** Undefined: all of it. */
  readonly part: HeldPart | undefined;
  /** Of a MIG instance, its first memory slice. */
  readonly start: number | undefined;
}

/** A GPU of a node that runs. */
export interface GpuRun {
  readonly id: GpuId;
  /** Several where they hold parts, of which one attempt may have more than one. */
  holders: readonly GpuHolder[];
  /** Faults under repair; in service at 0. */
  broken: number;
  reservedFor: TaskId | undefined;
  reservedUntilMs: number;
}

/** What one member of an attempt takes of a node: GPUs by their index, or a part of each. */
interface Held {
  readonly member: number;
  readonly gpus: readonly number[];
  readonly part: HeldPart | undefined;
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
      holders: [],
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

  /** Free GPUs, and parts of them, on a node that is partly taken: what whole-node gangs cannot use. */
  get stranded(): number {
    if (this.lost) return 0;
    let freeMilli = 0;
    for (const gpu of this.gpus) if (gpu.broken === 0) freeMilli += freeMilliOf(gpu);
    return freeMilli < this.inService * 1000 ? freeMilli / 1000 : 0;
  }

  /** A member of an attempt takes its part. */
  take(attempt: Attempt, held: Held): void {
    const { part } = held;
    for (const [nth, at] of held.gpus.entries()) {
      const gpu = this.gpus[at]!;
      const start = part?.kind === "mig" ? part.starts[nth] : undefined;
      gpu.holders = [...gpu.holders, { attempt, part, start }];
    }
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
      for (const at of gpus) {
        const gpu = this.gpus[at]!;
        gpu.holders = gpu.holders.filter((holder) => holder.attempt !== attempt);
      }
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
      for (const { member, gpus, part } of list) {
        const ids = gpus.map((at) => this.gpus[at]!.id);
        leases.push(attempt.lease(member, ids, part));
      }
    }
    return leases;
  }

  private toPlanGpu(gpu: GpuRun): PlanGpu {
    const { mode } = this.spec;
    return {
      id: gpu.id,
      model: this.spec.model,
      memoryMib: this.spec.gpuMemoryMib,
      simulated: true,
      ...(mode === undefined ? {} : { mode }),
      free: !isHeldWhole(gpu) && gpu.broken === 0 && !this.lost,
      reservedFor: gpu.reservedFor,
    };
  }
}

const isHeldWhole = ({ holders }: GpuRun): boolean =>
  holders.some(({ part }) => part === undefined);

const freeMilliOf = ({ holders }: GpuRun): number =>
  1000 - holders.reduce((sum, { part }) => sum + milliOfPart(part), 0);

const runtimes: readonly string[] = ["container", "process"];
