/**
 * Feasibility as a list of checks, each with a reason. `Fitter` runs them fused, for the
 * hot path; `explainShape` runs them one by one, so that a waiting task hears all of them.
 */
import type { Cluster } from "./cluster.ts";
import { memoryTaken } from "./cluster.ts";
import { fitsMig } from "./mig.ts";
import type { GpuKind } from "./nodes.ts";
import { migGrade } from "./shapes.ts";
import type { HostDemand, Shape } from "./shapes.ts";
import {
  anyOwner,
  briefCpu,
  briefDisk,
  briefIdle,
  briefKind,
  briefMemory,
  briefOwner,
  briefWidest,
  briefWidth,
} from "./states.ts";

/** Why a node cannot take a shape now. */
export type BlockReason =
  | "node_unschedulable"
  | "gpu_model"
  | "gpu_simulated"
  | "gpu_isolation"
  | "gpu_mig"
  | "gpu_memory"
  | "gpu_count"
  | "gpu_shared_with_other_tenant"
  | "gpu_busy"
  | "cpu"
  | "memory"
  | "disk";

interface Check {
  readonly reason: BlockReason;
  /** True where the state in `slot` meets this one demand of the shape, all else aside. */
  readonly passes: (cluster: Cluster, slot: number, shape: Shape) => boolean;
}

/** Whether a GPU of this kind could serve the shape when idle. */
export function kindAllowed(shape: Shape, kind: GpuKind): boolean {
  return (
    modelAllowed(shape, kind) &&
    (shape.allowSimulated || !kind.simulated) &&
    gradeAllowed(shape, kind) &&
    migAllowed(shape, kind) &&
    kind.memoryMib >= shape.gpuMemoryMib
  );
}

function modelAllowed(shape: Shape, kind: GpuKind): boolean {
  return shape.models === null || shape.models.includes(kind.model);
}

/** A whole GPU is held alone, whatever its grade; a shared one must be kept apart well enough. */
function gradeAllowed(shape: Shape, kind: GpuKind): boolean {
  if (shape.mig !== undefined) return kind.grade <= shape.weakestGrade;
  return shape.gpuMilli >= 1000 || (kind.grade > 0 && kind.grade <= shape.weakestGrade);
}

/** A GPU in MIG mode is given out in instances of its geometry, and no other GPU is. */
function migAllowed(shape: Shape, kind: GpuKind): boolean {
  return shape.mig?.geometry === kind.mig;
}

/** Tenants share a GPU only in MIG instances; an idle GPU is open to all. */
function tenantAllowed(shape: Shape, kind: GpuKind, freeMilli: number, owner: number): boolean {
  return owner === shape.ownerId || freeMilli >= kind.capacityMilli || kind.grade === migGrade;
}

type GpuTest = (shape: Shape, kind: GpuKind, at: number, cluster: Cluster) => boolean;

/** GPUs of the state that satisfy `test`. */
function countGpus(cluster: Cluster, slot: number, shape: Shape, test: GpuTest): number {
  const { states, kinds } = cluster;
  const base = states.base[slot]!;
  let found = 0;
  for (let at = base; at < base + states.gpus[slot]!; at++) {
    if (test(shape, kinds.kinds[states.kind[at]!]!, at, cluster)) found++;
  }
  return found;
}

function tooFewGpus({ states }: Cluster, slot: number, shape: Shape): boolean {
  return states.gpus[slot]! < shape.gpus;
}

function gpuCheck(reason: BlockReason, test: GpuTest): Check {
  const passes: Check["passes"] = (cluster, slot, shape) =>
    tooFewGpus(cluster, slot, shape) || countGpus(cluster, slot, shape, test) >= shape.gpus;
  return { reason, passes };
}

const hasRoom: GpuTest = (shape, kind, at, { states }) =>
  kindAllowed(shape, kind) &&
  (shape.mig === undefined || fitsMig(shape.mig, states.owner[at]!)) &&
  states.freeMilli[at]! >= shape.gpuMilli &&
  states.freeMib[at]! >= memoryTaken(shape, kind.memoryMib);

const hasRoomAndTenant: GpuTest = (shape, kind, at, cluster) => {
  const { freeMilli, owner } = cluster.states;
  return (
    hasRoom(shape, kind, at, cluster) && tenantAllowed(shape, kind, freeMilli[at]!, owner[at]!)
  );
};

/** Checks of what the GPUs are, whoever uses them now. */
const kindChecks: readonly Check[] = [
  gpuCheck("gpu_model", modelAllowed),
  gpuCheck("gpu_simulated", (shape, kind) => shape.allowSimulated || !kind.simulated),
  gpuCheck("gpu_isolation", gradeAllowed),
  gpuCheck("gpu_mig", migAllowed),
  gpuCheck("gpu_memory", (shape, kind) => kind.memoryMib >= shape.gpuMemoryMib),
];

/**
 * Every check, in the order in which they are told; a state passes all exactly where the
 * shape fits it. Each stands for itself, but for those of GPUs: a node with too few of them is
 * told for that alone, one with the wrong ones is not called busy as well, and a busy one
 * not closed to the tenant.
 */
export const checks: readonly Check[] = [
  { reason: "node_unschedulable", passes: ({ states }, slot) => states.schedulable[slot] === 1 },
  {
    reason: "gpu_count",
    passes: (cluster, slot, shape) => !tooFewGpus(cluster, slot, shape),
  },
  ...kindChecks,
  {
    reason: "gpu_busy",
    passes: (cluster, slot, shape) =>
      tooFewGpus(cluster, slot, shape) ||
      countGpus(cluster, slot, shape, hasRoom) >= shape.gpus ||
      kindChecks.some((check) => !check.passes(cluster, slot, shape)),
  },
  {
    reason: "gpu_shared_with_other_tenant",
    passes: (cluster, slot, shape) =>
      countGpus(cluster, slot, shape, hasRoomAndTenant) >= shape.gpus ||
      countGpus(cluster, slot, shape, hasRoom) < shape.gpus,
  },
  {
    reason: "cpu",
    passes: ({ states }, slot, shape) => states.cpuMillis[slot]! >= shape.cpuMillis,
  },
  {
    reason: "memory",
    passes: ({ states }, slot, shape) => states.memoryMib[slot]! >= shape.memoryMib,
  },
  { reason: "disk", passes: ({ states }, slot, shape) => states.diskMib[slot]! >= shape.diskMib },
];

/** All checks at once, over the GPUs of a state; allowed kinds are remembered per shape. */
export class Fitter {
  private readonly cluster: Cluster;
  private readonly allowed: Uint8Array[] = [];

  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  /** True where the shape fits the state in `slot`, asking no more of the host than `host`. */
  fits(slot: number, shape: Shape, host: HostDemand = shape): boolean {
    const { states } = this.cluster;
    const { brief } = states;
    const at = slot * briefWidth;
    if (
      brief[at + briefCpu]! < host.cpuMillis ||
      brief[at + briefMemory]! < host.memoryMib ||
      brief[at + briefDisk]! < host.diskMib
    ) {
      return false;
    }
    const { gpus, gpuMilli } = shape;
    if (gpus === 0) return true;
    if (gpuMilli < 1000 ? brief[at + briefWidest]! < gpuMilli : brief[at + briefIdle]! < gpus) {
      return false;
    }
    const kind = brief[at + briefKind]!;
    if (kind < 0) return this.gpusFit(slot, shape);
    if (this.table(shape)[kind] === 0) return false;
    if (gpuMilli >= 1000 || (gpus === 1 && this.isPlain(slot, shape))) return true;
    return this.gpusFit(slot, shape);
  }

  /** True where each GPU of a fitting state takes the shape's share if it has that much free. */
  isPlain(slot: number, shape: Shape): boolean {
    const { brief } = this.cluster.states;
    const at = slot * briefWidth;
    if (brief[at + briefKind]! < 0 || shape.gpuMemoryMib > 0 || shape.mig !== undefined)
      return false;
    const owner = brief[at + briefOwner]!;
    return owner === shape.ownerId || owner === anyOwner;
  }

  /** True where enough GPUs of a slot can each take the shape's part of one. */
  private gpusFit(slot: number, shape: Shape): boolean {
    const { states } = this.cluster;
    let missing = shape.gpus;
    const base = states.base[slot]!;
    // The freest GPUs of a kind stand last.
    const last = base + states.gpus[slot]! - 1;
    if (shape.gpuMilli < 1000) {
      for (let at = last; at >= base; at--) {
        if (this.gpuFits(at, shape) && --missing === 0) return true;
      }
      return false;
    }
    const { gap, kind } = states;
    const allowed = this.table(shape);
    for (let at = last; at >= base; at--) {
      if (gap[at]! >= 1000 && allowed[kind[at]!] !== 0 && --missing === 0) return true;
    }
    return false;
  }

  /** True where the GPU at column index `at` can take the shape's share. */
  gpuFits(at: number, shape: Shape): boolean {
    const { states, kinds } = this.cluster;
    if (states.freeMilli[at]! < shape.gpuMilli) return false;
    const kindId = states.kind[at]!;
    if (this.table(shape)[kindId] === 0) return false;
    if (shape.mig !== undefined) return fitsMig(shape.mig, states.owner[at]!);
    if (shape.gpuMilli >= 1000) return states.gap[at]! >= 1000;
    const owner = states.owner[at]!;
    const kind = kinds.kinds[kindId]!;
    if (owner !== shape.ownerId && !tenantAllowed(shape, kind, states.freeMilli[at]!, owner)) {
      return false;
    }
    return states.freeMib[at]! >= shape.gpuMemoryMib;
  }

  private table(shape: Shape): Uint8Array {
    const known = this.allowed[shape.id];
    const { kinds } = this.cluster.kinds;
    if (known !== undefined && known.length === kinds.length) return known;
    const table = Uint8Array.from(kinds, (kind) => (kindAllowed(shape, kind) ? 1 : 0));
    this.allowed[shape.id] = table;
    return table;
  }
}
