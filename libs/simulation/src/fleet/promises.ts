import type { NodeId } from "@fastgpu/domain/ids";
import { milliOfPart, sharedGrades } from "@fastgpu/scheduling/gpu-part";
import { migProfiles, migSlices } from "@fastgpu/scheduling/placement/mig";
import type { GpuPart, HeldPart, Placement } from "@fastgpu/scheduling/plan";
import type { GpuRun, NodeRun } from "./node-run.ts";
import type { TaskRun } from "./task-run.ts";

/** A promise of the scheduler that a run has seen broken; the seed and the time make it happen again. */
export class BrokenPromise extends Error {
  override readonly name = "BrokenPromise";
  readonly promise: string;
  readonly seed: number;
  readonly atMs: number;

  constructor(promise: string, detail: string, of: { seed: number; atMs: number }) {
    super(`${promise}: ${detail} (seed ${of.seed}, at ${of.atMs} ms of virtual time)`);
    this.promise = promise;
    this.seed = of.seed;
    this.atMs = of.atMs;
  }
}

/** A promise by name, and how it was broken. */
export interface Breach {
  readonly promise: string;
  readonly detail: string;
}

/** Where a member goes, resolved. */
export interface MemberPlaces {
  readonly node: NodeRun;
  readonly gpus: readonly number[];
  /** Undefined: all of each. */
  readonly part: HeldPart | undefined;
}

/**
 * What a placement takes, or the promise that it breaks: it is of a task that waits, whole, on nodes that accept work, on
 * GPUs that are free, fitting and not kept for others, within the capacity, and as the gang wants to lie. The nodes are
 * as placements before it have left them.
 */
export function checkPlacement(
  placement: Placement,
  task: TaskRun | undefined,
  nodeOf: (id: NodeId) => NodeRun | undefined,
): { readonly task: TaskRun; readonly places: readonly MemberPlaces[] } | Breach {
  if (task === undefined) {
    return { promise: onlyWaiting, detail: `${placement.task.id} is not known` };
  }
  const waiting = checkWaiting(placement, task);
  if (waiting !== undefined) return waiting;
  const { members } = placement;
  if (members.length !== task.spec.replicas) {
    const detail = `${members.length} of ${task.spec.replicas} members of ${task.id}`;
    return { promise: "a gang is whole or absent", detail };
  }
  const places: MemberPlaces[] = [];
  for (const { node: id, gpus, part } of members) {
    const node = nodeOf(id);
    if (node === undefined || !node.acceptsWork) {
      return { promise: "work goes to nodes that accept it", detail: `${id} gets ${task.id}` };
    }
    const at = gpus.map((gpu) => node.gpus.findIndex((own) => own.id === gpu));
    places.push({ node, gpus: at, part });
  }
  return (
    checkGpus(places, task) ??
    checkParts(places, task) ??
    checkCapacity(places, task) ??
    checkTopology(places, task) ?? { task, places }
  );
}

const onlyWaiting = "only what waits is placed";

function checkWaiting(placement: Placement, task: TaskRun): Breach | undefined {
  const promise = onlyWaiting;
  if (!task.arrived || task.endMs !== undefined || task.leasesLeft === 0) {
    return { promise, detail: `${task.id} does not wait` };
  }
  const least = task.spec.array === undefined ? 1 : placement.elements;
  if (task.spec.array !== undefined && !(least >= 1 && least <= task.pending)) {
    return { promise, detail: `${placement.elements} of ${task.pending} elements of ${task.id}` };
  }
  return undefined;
}

function checkGpus(places: readonly MemberPlaces[], task: TaskRun): Breach | undefined {
  const { demand } = task.spec;
  const used = new Set<GpuRun>();
  for (const { node, gpus, part } of places) {
    if (gpus.length !== demand.gpuCount) {
      const detail = `${gpus.length} of ${demand.gpuCount} for ${task.id}`;
      return { promise: "a member gets the GPUs that it asks for", detail };
    }
    const { model, gpuMemoryMib } = node.spec;
    if (gpus.length > 0 && demand.gpuModels.length > 0 && !demand.gpuModels.includes(model)) {
      return { promise: "a task gets the models that it allows", detail: `${task.id} on ${model}` };
    }
    if (gpus.length > 0 && gpuMemoryMib < demand.gpuMinMemoryMib) {
      return {
        promise: "a task gets the memory that it asks for",
        detail: `${task.id} on ${model}`,
      };
    }
    for (const at of gpus) {
      const gpu = node.gpus[at];
      const busy = part === undefined && gpu !== undefined && gpu.holders.length > 0;
      if (gpu === undefined || busy || (part === undefined && used.has(gpu))) {
        return { promise: "no GPU is leased twice", detail: `${gpu?.id ?? node.id} to ${task.id}` };
      }
      used.add(gpu);
      if (gpu.broken > 0 || task.excludedGpus.includes(gpu.id)) {
        return { promise: "no GPU out of bounds is leased", detail: `${gpu.id} to ${task.id}` };
      }
      if (gpu.reservedFor !== undefined && gpu.reservedFor !== task.id) {
        const detail = `${gpu.id} of ${gpu.reservedFor} to ${task.id}`;
        return { promise: "what a preemption frees goes to the preemptor", detail };
      }
    }
  }
  return undefined;
}

function checkCapacity(places: readonly MemberPlaces[], task: TaskRun): Breach | undefined {
  const { cpuMillis, memoryMib, diskMib } = task.spec.demand;
  for (const [node, members] of Map.groupBy(places, (place) => place.node)) {
    const count = members.length;
    if (
      count * cpuMillis > node.freeCpuMillis ||
      count * memoryMib > node.freeMemoryMib ||
      count * diskMib > node.freeDiskMib
    ) {
      return { promise: "capacity is never exceeded", detail: `${node.id} by ${task.id}` };
    }
  }
  return undefined;
}

function checkTopology(places: readonly MemberPlaces[], task: TaskRun): Breach | undefined {
  const { within, spreadOver } = task.spec.topology;
  const promise = "a gang lies as it wants to";
  if (within !== undefined) {
    const held = new Set(places.map(({ node }) => placeOf(node, within)));
    if (held.size > 1 || held.has(undefined))
      return { promise, detail: `${task.id} within ${within}` };
  }
  if (spreadOver !== undefined) {
    const held = new Set(places.map(({ node }) => placeOf(node, spreadOver)));
    if (held.size < places.length) return { promise, detail: `${task.id} over ${spreadOver}` };
  }
  return undefined;
}

function placeOf(node: NodeRun, kind: "node" | "nvlink" | "rack"): string | undefined {
  switch (kind) {
    case "node":
      return node.id;
    case "nvlink":
      return node.spec.nvlink;
    case "rack":
      return node.spec.rack;
  }
}

const noGpuTwice = "no GPU is given out beyond what it has";

/** What must hold where parts of GPUs are given, apart from how the planner works it out. */
function checkParts(places: readonly MemberPlaces[], task: TaskRun): Breach | undefined {
  const { gpuCount, part: asked } = task.spec.demand;
  if (gpuCount === 0) return undefined;
  const fresh = new Map<
    GpuRun,
    { readonly part: HeldPart; readonly start: number | undefined }[]
  >();
  for (const { node, gpus, part } of places) {
    const wrong = checkGiven(part, { asked, node, task });
    if (wrong !== undefined) return wrong;
    for (const [nth, at] of part === undefined ? [] : gpus.entries()) {
      const gpu = node.gpus[at]!;
      const start = part?.kind === "mig" ? part.starts[nth] : undefined;
      const others = fresh.get(gpu) ?? [];
      fresh.set(gpu, [...others, { part: part!, start }]);
      const breach = checkBeside(gpu, { node, task, given: fresh.get(gpu)! });
      if (breach !== undefined) return breach;
    }
  }
  return undefined;
}

/** What is given is what was asked for, under a grade that is at least the one demanded, on GPUs in that mode. */
function checkGiven(
  part: HeldPart | undefined,
  of: { readonly asked: GpuPart | undefined; readonly node: NodeRun; readonly task: TaskRun },
): Breach | undefined {
  const { asked, node, task } = of;
  const { mode } = node.spec;
  const promise = "a task gets the part of a GPU that it asks for, kept apart as it asks";
  const detail = `${task.id} gets ${JSON.stringify(part)} of ${JSON.stringify(asked)} on ${node.id}`;
  if (asked === undefined || part === undefined) {
    const fits = asked === part && mode?.isolation !== "mig";
    return fits ? undefined : { promise, detail };
  }
  if (asked.kind === "mig") {
    const geometry = migProfiles.get(asked.profile)?.geometry;
    const fits =
      part.kind === "mig" &&
      part.profile === asked.profile &&
      mode?.isolation === "mig" &&
      mode.geometry === geometry;
    return fits ? undefined : { promise, detail };
  }
  const fits =
    part.kind === "share" &&
    part.milli === asked.milli &&
    part.memoryMib === task.spec.demand.gpuMinMemoryMib &&
    part.grade === mode?.isolation &&
    sharedGrades.indexOf(part.grade) <= sharedGrades.indexOf(asked.weakest);
  return fits ? undefined : { promise, detail };
}

/** Parts lie beside one another: compute, memory and slices suffice, and strangers meet in MIG instances only. */
function checkBeside(
  gpu: GpuRun,
  of: {
    readonly node: NodeRun;
    readonly task: TaskRun;
    readonly given: readonly { readonly part: HeldPart; readonly start: number | undefined }[];
  },
): Breach | undefined {
  const { node, task, given } = of;
  const detail = `${gpu.id} to ${task.id}`;
  const all = [...gpu.holders, ...given];
  let memoryMib = 0;
  let milli = 0;
  let slices = 0;
  for (const { part, start } of all) {
    milli += milliOfPart(part);
    if (part === undefined) return { promise: noGpuTwice, detail };
    if (part.kind === "share") memoryMib += part.memoryMib;
    else {
      const profile = migProfiles.get(part.profile)!;
      const own = migSlices(profile, start ?? 0);
      if (!profile.starts.includes(start ?? -1) || (slices & own) !== 0) {
        return { promise: "MIG instances lie where they may and never overlap", detail };
      }
      slices |= own;
    }
  }
  if (milli > 1000 || memoryMib > node.spec.gpuMemoryMib) return { promise: noGpuTwice, detail };
  const strangers = gpu.holders.some(({ attempt }) => attempt.task.org !== task.org);
  if (strangers && node.spec.mode?.isolation !== "mig") {
    return { promise: "organisations share a GPU in MIG instances only", detail };
  }
  return undefined;
}
