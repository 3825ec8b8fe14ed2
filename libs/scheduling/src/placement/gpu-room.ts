import { kindAllowed } from "./checks.ts";
import { memoryTaken, type Cluster } from "./cluster.ts";
import { bestMigStart, fitsMig, migSlices, mostMig } from "./mig.ts";
import type { GpuKind } from "./nodes.ts";
import { migGrade, type Shape } from "./shapes.ts";

/** What is left of one GPU. */
export interface GpuLeft {
  readonly kind: GpuKind;
  freeMilli: number;
  freeMib: number;
  /** Number of the organisation that shares it, 0 while it is idle; in MIG mode the memory slices that are taken. */
  owner: number;
}

/** What holds GPUs of a node: a shape on each of these positions, MIG instances from these slices on. */
export interface GpuHolding {
  readonly shape: Shape;
  readonly gpus: readonly number[];
  readonly starts?: readonly number[] | undefined;
}

/** What is left of the GPU at a position of a node's list. */
export function gpuLeft({ nodes, states, kinds }: Cluster, node: number, at: number): GpuLeft {
  const { slot, order } = nodes[node]!;
  const column = states.base[slot]! + order.indexOf(at);
  return {
    kind: kinds.kinds[states.kind[column]!]!,
    freeMilli: states.freeMilli[column]!,
    freeMib: states.freeMib[column]!,
    owner: states.owner[column]!,
  };
}

/** The GPUs of a node as they are now. */
export const gpuRoomOf = (cluster: Cluster, node: number): GpuRoom =>
  new GpuRoom(cluster.nodes[node]!.order.map((_, at) => gpuLeft(cluster, node, at)));

/**
 * The GPUs of one node by position, as they would be if some holders went and others came: for searches on nodes whose
 * GPUs are shared. Follows the placement engine's own rules; nothing of the engine changes.
 */
export class GpuRoom {
  private readonly gpus: readonly GpuLeft[];

  constructor(gpus: readonly GpuLeft[]) {
    this.gpus = gpus;
  }

  copy(): GpuRoom {
    return new GpuRoom(this.gpus.map((gpu) => ({ ...gpu })));
  }

  /** Whether each GPU is of a kind that the shape may use, whoever holds it now. */
  usable(shape: Shape): boolean[] {
    return this.gpus.map(({ kind }) => kindAllowed(shape, kind));
  }

  /**
   * GPUs that one member more could have parts of beside `beside` others of its shape; the member fits where these are
   * as many as it asks for. So many members fit where Σ min(parts that fit on a GPU, members) reaches what they ask for
   * together, since a member has no GPU twice (Gale, "A theorem on flows in networks", 1957).
   */
  count(shape: Shape, usable: readonly boolean[], beside = 0): number {
    let found = -beside * shape.gpus;
    for (const [at, gpu] of this.gpus.entries()) {
      if (usable[at]) found += Math.min(partsOn(gpu, shape), beside + 1);
    }
    return found;
  }

  /** Gives back what a holder has. */
  give({ shape, gpus, starts }: GpuHolding): void {
    for (const [index, at] of gpus.entries()) {
      const gpu = this.gpus[at];
      if (gpu === undefined) continue;
      gpu.freeMilli += shape.gpuMilli;
      gpu.freeMib += memoryTaken(shape, gpu.kind.memoryMib);
      if (shape.mig !== undefined) gpu.owner &= ~migSlices(shape.mig, starts?.[index] ?? 0);
      else if (gpu.freeMilli >= gpu.kind.capacityMilli) gpu.owner = 0;
    }
  }

  /** Takes what a holder has, or would have; false, and some of it may be taken, where that is not free. */
  take({ shape, gpus, starts }: GpuHolding): boolean {
    return gpus.every((at, index) => {
      const gpu = this.gpus[at];
      const start = starts?.[index];
      if (gpu === undefined || !fits(gpu, shape, start)) return false;
      takePart(gpu, shape, start);
      return true;
    });
  }

  /** Takes GPUs for members of one shape, as many as fit of these: the fullest that leave room for the others. */
  pack(shape: Shape, usable: readonly boolean[], members: number): GpuHolding[] {
    let most = 0;
    while (most < members && this.count(shape, usable, most) >= shape.gpus) most++;
    return Array.from({ length: most }, (_, placed) =>
      this.packOne(shape, usable, most - placed - 1),
    );
  }

  /** Takes GPUs for one member, the fullest first, so that others fit after it. */
  private packOne(shape: Shape, usable: readonly boolean[], others: number): GpuHolding {
    const fitting = this.gpus.flatMap((gpu, at) => {
      const parts = usable[at] ? partsOn(gpu, shape) : 0;
      return parts > 0 ? [{ gpu, at, parts }] : [];
    });
    fitting.sort((a, b) => a.gpu.freeMilli - b.gpu.freeMilli || a.at - b.at);
    // What the others can spare of GPUs with no more parts than they could all make use of.
    let spare = fitting.reduce((sum, { parts }) => sum + Math.min(parts, others), 0);
    spare -= others * shape.gpus;
    const gpus: number[] = [];
    const starts: number[] = [];
    for (const { gpu, at, parts } of fitting) {
      if (gpus.length === shape.gpus) break;
      if (parts <= others && spare-- <= 0) continue;
      const start = shape.mig === undefined ? undefined : bestMigStart(shape.mig, gpu.owner);
      takePart(gpu, shape, start);
      gpus.push(at);
      if (start !== undefined) starts.push(start);
    }
    return shape.mig === undefined ? { shape, gpus } : { shape, gpus, starts };
  }
}

/** Parts of a shape that fit on a GPU beside what holds it. */
function partsOn(gpu: GpuLeft, shape: Shape): number {
  const { kind, freeMilli, freeMib, owner } = gpu;
  if (!fits(gpu, shape)) return 0;
  const byCompute = Math.floor(freeMilli / shape.gpuMilli);
  const memory = memoryTaken(shape, kind.memoryMib);
  const byMemory = memory === 0 ? byCompute : Math.min(byCompute, Math.floor(freeMib / memory));
  return shape.mig === undefined ? byMemory : Math.min(byMemory, mostMig(shape.mig, owner));
}

function takePart(gpu: GpuLeft, shape: Shape, start: number | undefined): void {
  gpu.freeMilli -= shape.gpuMilli;
  gpu.freeMib -= memoryTaken(shape, gpu.kind.memoryMib);
  if (shape.mig !== undefined) gpu.owner |= migSlices(shape.mig, start ?? 0);
  else if (gpu.kind.grade !== migGrade) gpu.owner = shape.ownerId;
}

/** Whether one part fits beside what holds the GPU: room, and nobody of another organisation. */
function fits({ kind, freeMilli, freeMib, owner }: GpuLeft, shape: Shape, start?: number): boolean {
  if (freeMilli < shape.gpuMilli || freeMib < memoryTaken(shape, kind.memoryMib)) return false;
  if (shape.mig !== undefined) {
    return start === undefined
      ? fitsMig(shape.mig, owner)
      : (owner & migSlices(shape.mig, start)) === 0;
  }
  return owner === shape.ownerId || freeMilli >= kind.capacityMilli || kind.grade === migGrade;
}
