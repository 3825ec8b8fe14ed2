import type { GpuId } from "@fastgpu/domain/ids";
import { migProfiles } from "./placement/mig.ts";
import type { Demand, GpuPart, HeldPart, SharedGrade } from "./plan.ts";

/** The grades of shares, strongest first. */
export const sharedGrades: readonly SharedGrade[] = [
  "dmem_mps",
  "dmem_timeslice",
  "mps",
  "timeslice",
];

/** Thousandths of one GPU that a part of it counts; a GPU alone counts 1000, and so does an unknown profile. */
export function milliOfPart(part: GpuPart | HeldPart | undefined): number {
  if (part === undefined) return 1000;
  return part.kind === "share" ? part.milli : (migProfiles.get(part.profile)?.gpuMilli ?? 1000);
}

/** Thousandths of GPUs that one member asks for. */
export const milliOfDemand = ({ gpuCount, part }: Pick<Demand, "gpuCount" | "part">): number =>
  gpuCount * milliOfPart(part);

/** Thousandths of GPUs that are held. */
export const milliOfHeld = (of: {
  readonly gpus: readonly GpuId[];
  readonly part?: HeldPart | undefined;
}): number => of.gpus.length * milliOfPart(of.part);

/** A demand that what is held would meet. */
export const askedPart = (part: HeldPart): GpuPart =>
  part.kind === "mig"
    ? { kind: "mig", profile: part.profile }
    : { kind: "share", milli: part.milli, weakest: part.grade };
