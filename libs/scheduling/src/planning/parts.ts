import { memoryTaken } from "../placement/cluster.ts";
import { migProfiles, migSlices } from "../placement/mig.ts";
import { emptyRequest, type ResourceRequest, type Shape } from "../placement/shapes.ts";
import { sharedGrades } from "../gpu-part.ts";
import type { HeldPart, PlanGpu, PlanLease, PlanNode, PlanTask, SharedGrade } from "../plan.ts";
import type { GpuHolding } from "../placement/gpu-room.ts";

/** What a task demands of one node, in the engine's terms, on GPUs of these models (none: of any). */
export function requestOf(
  { demand, org }: Pick<PlanTask, "demand" | "org">,
  models: readonly string[],
): ResourceRequest {
  const { cpuMillis, memoryMib, diskMib, gpuCount } = demand;
  const host = {
    ...emptyRequest,
    cpuMillis,
    memoryMib,
    diskMib,
    allowSimulated: demand.simulatedOk,
  };
  if (gpuCount === 0) return host;
  const gpus = { ...host, gpus: gpuCount, models: models.length > 0 ? models : null };
  const { part, gpuMinMemoryMib: gpuMemoryMib } = demand;
  if (part === undefined) return { ...gpus, gpuMilli: 1000, gpuMemoryMib };
  if (part.kind === "share") {
    const { milli: gpuMilli, weakest: minIsolation } = part;
    return { ...gpus, gpuMilli, gpuMemoryMib, minIsolation, owner: org };
  }
  const { gpuMilli, memorySlices } = migProfiles.get(part.profile) ?? unknownProfile;
  // An instance has its part of the GPU's memory, in eighths.
  const wholeMib = Math.ceil((gpuMemoryMib * 8) / memorySlices);
  const mig = { migProfile: part.profile, minIsolation: "mig" as const };
  return { ...gpus, ...mig, gpuMilli, gpuMemoryMib: wholeMib };
}

/** Refused by the engine, which knows no such profile either. */
const unknownProfile = { gpuMilli: 1000, memorySlices: 8 };

/** Whether any GPU of a node is given out in parts. */
export const isShared = ({ gpus }: PlanNode): boolean =>
  gpus.some(({ mode }) => mode !== undefined && mode.isolation !== "exclusive");

/**
 * The part that a lease holds of each of its GPUs, in the engine's terms; undefined: all of it, as it is counted too
 * where the GPUs are in another mode than the lease says.
 */
export function heldRequest(
  { part, org }: PlanLease,
  gpus: readonly PlanGpu[],
): Partial<ResourceRequest> | undefined {
  if (part === undefined || gpus.length === 0) return undefined;
  if (part.kind === "share") {
    const shares = ({ mode }: PlanGpu): boolean =>
      mode !== undefined && mode.isolation !== "exclusive" && mode.isolation !== "mig";
    if (!gpus.every(shares) || part.milli >= 1000) return undefined;
    return { gpuMilli: part.milli, gpuMemoryMib: part.memoryMib, owner: org };
  }
  const profile = migProfiles.get(part.profile);
  const divided = ({ mode }: PlanGpu): boolean =>
    mode?.isolation === "mig" && mode.geometry === profile?.geometry;
  if (profile === undefined || !gpus.every(divided)) return undefined;
  return { gpuMilli: profile.gpuMilli, migProfile: profile.id };
}

/** What a place gives of each of its GPUs; undefined: all of it. */
export function heldPartOf(
  { gpus, gpuMilli, gpuMemoryMib, migProfile }: Shape,
  on: readonly PlanGpu[],
  starts: readonly number[] = [],
): HeldPart | undefined {
  if (migProfile !== null) return { kind: "mig", profile: migProfile, starts, grade: "mig" };
  if (gpus === 0 || gpuMilli >= 1000) return undefined;
  const grades = on.map(({ mode }) => sharedGrades.indexOf(mode?.isolation as SharedGrade));
  const grade = sharedGrades[Math.max(...grades)] ?? "timeslice";
  return { kind: "share", milli: gpuMilli, memoryMib: gpuMemoryMib, grade };
}

/** Thousandths of one GPU that these hold. */
export const takenMilli = (holders: readonly GpuHolding[]): number =>
  holders.reduce((sum, { shape }) => sum + shape.gpuMilli, 0);

/** Whether leases hold more of a GPU than it has, or what may not lie together on one. */
export function overdrawn({ gpus }: PlanNode, held: readonly GpuHolding[]): boolean {
  return gpus.some(({ memoryMib }, at) => {
    const holders = held.filter((each) => each.gpus.includes(at));
    if (takenMilli(holders) > 1000) return true;
    if (holders.reduce((sum, { shape }) => sum + memoryTaken(shape, memoryMib), 0) > memoryMib)
      return true;
    let slices = 0;
    for (const { shape, gpus: own, starts } of holders) {
      if (shape.mig === undefined) continue;
      const more = migSlices(shape.mig, starts?.[own.indexOf(at)] ?? 0);
      if ((slices & more) !== 0) return true;
      slices |= more;
    }
    const shares = holders.filter(({ shape }) => shape.mig === undefined);
    return new Set(shares.map(({ shape }) => shape.owner)).size > 1;
  });
}
