/**
 * What tasks ask for, as equivalence classes: two tasks of one shape have the same
 * feasible places and the same scores, so everything is computed once per shape.
 */

import { migProfiles } from "./mig.ts";
import type { MigProfile } from "./mig.ts";

/** Isolation grades, strongest first; an index into this list is a grade's number. */
export const isolationGrades = [
  "exclusive",
  "mig",
  "dmem_mps",
  "dmem_timeslice",
  "mps",
  "timeslice",
] as const;
export type IsolationGrade = (typeof isolationGrades)[number];

/** The number of the one grade under which different tenants may share a GPU. */
export const migGrade = isolationGrades.indexOf("mig");

/** One member of a task: what it needs on a single node. */
export interface ResourceRequest {
  /** GPUs on the node; 0 for a CPU task. */
  readonly gpus: number;
  /** Thousandths of each GPU, 1–1000; 1000 asks for the GPU alone. 0 without GPUs. */
  readonly gpuMilli: number;
  /** Memory needed on each GPU; 0 asks for none in particular. */
  readonly gpuMemoryMib: number;
  /** Allowed GPU models; null allows every model. */
  readonly models: readonly string[] | null;
  /** A MIG instance of this profile (`MigProfile.id`) on each GPU instead of a share of it; null for none. */
  readonly migProfile: string | null;
  /** The weakest isolation grade that is accepted. */
  readonly minIsolation: IsolationGrade;
  readonly allowSimulated: boolean;
  /** The tenant, for the rule who may share a GPU with whom; "" shares with "" only. */
  readonly owner: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

/** A request without demands: the base for object spreads. */
export const emptyRequest: ResourceRequest = {
  gpus: 0,
  gpuMilli: 0,
  gpuMemoryMib: 0,
  models: null,
  migProfile: null,
  minIsolation: "timeslice",
  allowSimulated: true,
  owner: "",
  cpuMillis: 0,
  memoryMib: 0,
  diskMib: 0,
};

/** What a request takes of a node beside GPUs. */
export type HostDemand = Pick<ResourceRequest, "cpuMillis" | "memoryMib" | "diskMib">;

/** The least that any shape of a family takes of a node; it can fall with each new shape. */
export interface Family extends HostDemand {
  /** Rises when the least falls. */
  readonly version: number;
}

/** A registered request. `id` indexes the engine's per-shape tables, `classId` the mix's. */
export interface Shape extends ResourceRequest {
  readonly id: number;
  /** Shapes that differ by owner only are one class of the workload's mix. */
  readonly classId: number;
  /** Shapes that ask the same of GPUs and nearly the same CPU are one family. */
  readonly familyId: number;
  readonly family: Family;
  /** The owner's number; 0 where sharing does not matter (whole GPUs, no GPU). */
  readonly ownerId: number;
  /** The weakest accepted grade as an index into `isolationGrades`. */
  readonly weakestGrade: number;
  /** The profile of `migProfile`. */
  readonly mig: MigProfile | undefined;
}

/** A field of a request that cannot be used. */
export interface RequestProblem {
  readonly field: keyof ResourceRequest;
  readonly problem: string;
}

const maxAmount = 2 ** 31 - 1;

/** The most GPUs on a node, and so the most that one member of a task can ask for. */
export const maxGpusPerNode = 64;

/** Checks a request; answers the first field that is wrong. */
export function checkRequest(request: ResourceRequest): RequestProblem | undefined {
  const limits = [
    ["gpus", maxGpusPerNode],
    ["gpuMilli", 1000],
    ["gpuMemoryMib", maxAmount],
    ["cpuMillis", maxAmount],
    ["memoryMib", maxAmount],
    ["diskMib", maxAmount],
  ] as const;
  for (const [field, max] of limits) {
    const value = request[field];
    if (!Number.isInteger(value) || value < 0 || value > max) {
      return { field, problem: `must be a whole number in [0, ${max}], not ${value}` };
    }
  }
  if (request.gpus > 0 && request.gpuMilli === 0) {
    return { field: "gpuMilli", problem: "must be at least 1 when GPUs are asked for" };
  }
  if (request.gpus === 0 && (request.gpuMilli > 0 || request.gpuMemoryMib > 0)) {
    return { field: "gpus", problem: "must be at least 1 when a share or GPU memory is asked for" };
  }
  if (request.models?.length === 0) {
    return { field: "models", problem: "must name at least one model, or be absent" };
  }
  return request.migProfile === null ? undefined : checkMig(request, request.migProfile);
}

function checkMig(request: ResourceRequest, profileId: string): RequestProblem | undefined {
  const profile = migProfiles.get(profileId);
  if (profile === undefined) {
    return { field: "migProfile", problem: `must be one of ${[...migProfiles.keys()].join(", ")}` };
  }
  if (request.gpus === 0) {
    return { field: "gpus", problem: "must be at least 1 when a MIG instance is asked for" };
  }
  if (request.gpuMilli !== profile.gpuMilli) {
    const problem = `must be ${profile.gpuMilli}, the part that ${profileId} takes`;
    return { field: "gpuMilli", problem };
  }
  return undefined;
}

function numberOf(numbers: Map<string, number>, key: string): number {
  const known = numbers.get(key) ?? numbers.size;
  numbers.set(key, known);
  return known;
}

/** The number with its two highest binary digits only. */
function roundedDown(amount: number): number {
  const unit = 2 ** Math.max(0, 30 - Math.clz32(amount));
  return amount - (amount % unit);
}

class LeastDemand implements Family {
  cpuMillis: number = maxAmount;
  memoryMib: number = maxAmount;
  diskMib: number = maxAmount;
  version = 0;

  include(demand: HostDemand): void {
    const before = this.cpuMillis + this.memoryMib + this.diskMib;
    this.cpuMillis = Math.min(this.cpuMillis, demand.cpuMillis);
    this.memoryMib = Math.min(this.memoryMib, demand.memoryMib);
    this.diskMib = Math.min(this.diskMib, demand.diskMib);
    if (this.cpuMillis + this.memoryMib + this.diskMib < before) this.version++;
  }
}

/** Gives each distinct request a number. */
export interface ShapeTable {
  readonly shapes: readonly Shape[];
  /** Registers a request that `checkRequest` accepts; throws RangeError for one it refuses. */
  intern(request: ResourceRequest): Shape;
  /** The tenant behind an `ownerId`. */
  ownerName(ownerId: number): string;
}

/** Makes an empty table. */
export function createShapeTable(): ShapeTable {
  const shapes: Shape[] = [];
  const byKey = new Map<string, Shape>();
  const classes = new Map<string, number>();
  const families = new Map<string, number>();
  const least: LeastDemand[] = [];
  const owners = new Map<string, number>([["", 0]]);
  const ownerNames = [""];

  const ownerId = (owner: string): number => {
    const known = owners.get(owner);
    if (known !== undefined) return known;
    owners.set(owner, owners.size);
    return ownerNames.push(owner) - 1;
  };

  const intern = (request: ResourceRequest): Shape => {
    const problem = checkRequest(request);
    if (problem !== undefined) throw new RangeError(`${problem.field} ${problem.problem}`);
    const models = request.models === null ? null : [...new Set(request.models)].sort();
    const weakestGrade = isolationGrades.indexOf(request.minIsolation);
    const shared = request.gpus > 0 && request.gpuMilli < 1000;
    const owner = shared ? request.owner : "";
    const { gpus, gpuMilli, gpuMemoryMib, allowSimulated } = request;
    const gpuKey = JSON.stringify([
      gpus,
      gpuMilli,
      gpuMemoryMib,
      models,
      weakestGrade,
      allowSimulated,
      request.migProfile,
    ]);
    const classKey = `${gpuKey}${request.cpuMillis}/${request.memoryMib}/${request.diskMib}`;
    const key = `${classKey}/${owner}`;
    const known = byKey.get(key);
    if (known !== undefined) return known;
    const familyKey = `${gpuKey}${roundedDown(request.cpuMillis)}/${owner}`;
    const familyId = numberOf(families, familyKey);
    const family = (least[familyId] ??= new LeastDemand());
    family.include(request);
    const shape = {
      ...request,
      models,
      owner,
      id: shapes.length,
      classId: numberOf(classes, classKey),
      familyId,
      family,
      weakestGrade,
      mig: request.migProfile === null ? undefined : migProfiles.get(request.migProfile),
      ownerId: ownerId(owner),
    };
    shapes.push(shape);
    byKey.set(key, shape);
    return shape;
  };
  const ownerName = (id: number): string => ownerNames[id] ?? "";
  return { shapes, intern, ownerName };
}
