/** What must always hold of GPUs that are shared, checked for tests apart from the engine. Violations throw. */
import { sharedGrades } from "./gpu-part.ts";
import { migProfiles } from "./placement/mig.ts";
import type { GpuMode, HeldPart, PlanGpu, PlanLease, PlanNode, PlanTask } from "./plan.ts";

/** What is given is what was asked for, under a grade that is at least the one demanded. */
export function checkPart({ id, demand }: PlanTask, given: HeldPart | undefined): void {
  const { part: asked } = demand;
  if (demand.gpuCount === 0) return;
  if (asked?.kind !== given?.kind) throw new Error(`${id} gets a ${given?.kind}`);
  if (asked?.kind === "mig" && given?.kind === "mig") {
    if (asked.profile !== given.profile) throw new Error(`${id} gets a ${given.profile}`);
    if (given.starts.length !== demand.gpuCount) throw new Error(`${id} gets too few instances`);
  }
  if (asked?.kind === "share" && given?.kind === "share") {
    if (asked.milli !== given.milli) throw new Error(`${id} gets ${given.milli} thousandths`);
    if (given.memoryMib !== demand.gpuMinMemoryMib) throw new Error(`${id} gets other memory`);
    if (sharedGrades.indexOf(given.grade) > sharedGrades.indexOf(asked.weakest))
      throw new Error(`${id} is kept apart by ${given.grade} only`);
  }
}

/** No GPU is given out beyond its compute or memory, instances lie apart, and one organisation shares it unless by MIG. */
export function checkParts({ gpus, running }: PlanNode): void {
  for (const gpu of gpus) {
    const leases = running.filter((lease) => lease.gpus.includes(gpu.id));
    if (leases.length > 0) checkGpu(gpu, leases);
  }
}

function checkGpu(gpu: PlanGpu, leases: readonly PlanLease[]): void {
  const refuse = (why: string): never => {
    throw new Error(`${gpu.id} ${why}`);
  };
  if (leases.length > 1 && leases.some(({ part }) => part === undefined)) refuse("is held twice");
  const isolation: GpuMode["isolation"] = gpu.mode?.isolation ?? "exclusive";
  let milli = 0;
  let memoryMib = 0;
  const slices = new Set<number>();
  for (const { gpus, part } of leases) {
    if (part === undefined) {
      if (isolation === "mig") refuse("is given out whole in MIG mode");
      continue;
    }
    if (part.kind === "mig") {
      const profile = migProfiles.get(part.profile)!;
      const start = part.starts[gpus.indexOf(gpu.id)]!;
      if (gpu.mode?.isolation !== "mig" || gpu.mode.geometry !== profile.geometry)
        refuse(`is not divided into ${profile.id}`);
      if (!profile.starts.includes(start)) refuse(`has a ${profile.id} at ${start}`);
      for (let slice = start; slice < start + profile.memorySlices; slice++) {
        if (slices.has(slice)) refuse(`gives slice ${slice} out twice`);
        slices.add(slice);
      }
      continue;
    }
    milli += part.milli;
    memoryMib += part.memoryMib;
    if (isolation === "exclusive" || isolation === "mig") refuse(`is ${isolation}, and shared`);
    else if (sharedGrades.indexOf(isolation) > sharedGrades.indexOf(part.grade))
      refuse(`keeps apart by ${isolation} and says ${part.grade}`);
  }
  if (milli > 1000) refuse(`gives out ${milli} thousandths`);
  if (memoryMib > gpu.memoryMib) refuse(`gives out ${memoryMib} MiB`);
  const tenants = new Set(leases.map(({ org }) => org));
  if (tenants.size > 1 && isolation !== "mig") refuse(`is shared by ${[...tenants].join(", ")}`);
}
