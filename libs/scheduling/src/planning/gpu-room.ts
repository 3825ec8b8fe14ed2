import { kindAllowed } from "../placement/checks.ts";
import { memoryTaken } from "../placement/cluster.ts";
import { bestMigStart, fitsMig, migSlices } from "../placement/mig.ts";
import type { GpuKind } from "../placement/nodes.ts";
import { migGrade, type Shape } from "../placement/shapes.ts";

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

  /** Usable GPUs on which one of the shape's parts fits now. */
  count(shape: Shape, usable: readonly boolean[]): number {
    let found = 0;
    for (const [at, gpu] of this.gpus.entries()) if (usable[at] && fits(gpu, shape)) found++;
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

  /** Takes GPUs for one member, the fullest that fit first; undefined, and nothing is taken, where too few do. */
  place(shape: Shape, usable: readonly boolean[]): readonly number[] | undefined {
    const fitting = this.gpus.flatMap((gpu, at) =>
      usable[at] && fits(gpu, shape) ? [{ gpu, at }] : [],
    );
    if (fitting.length < shape.gpus) return undefined;
    fitting.sort((a, b) => a.gpu.freeMilli - b.gpu.freeMilli || a.at - b.at);
    const chosen = fitting.slice(0, shape.gpus);
    for (const { gpu } of chosen) {
      takePart(
        gpu,
        shape,
        shape.mig === undefined ? undefined : bestMigStart(shape.mig, gpu.owner),
      );
    }
    return chosen.map(({ at }) => at);
  }
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
