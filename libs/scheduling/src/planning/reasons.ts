import { placeGang } from "../placement/gang.ts";
import type { PlacementEngine } from "../placement/engine.ts";
import type { Shape } from "../placement/shapes.ts";
import type { FitReport } from "../placement/explain.ts";
import { migProfiles } from "../placement/mig.ts";
import type { PlanReservation, PlanTask, WaitReason } from "../plan.ts";
import type { LimitHit } from "./budget.ts";
import type { Fleet } from "./fleet.ts";

/** Waits out the pause before a retry. */
export const backoff: WaitReason = {
  reason: "RETRY_BACKOFF",
  message: "waits out the pause before a retry",
};

/** An array with as many leases as it may have. */
export const parallelismReached: WaitReason = {
  reason: "NO_CAPACITY",
  message: "as many of its elements run as its parallelism allows",
};

/** A place is kept for the task until what holds it has ended. */
export const makingRoom: WaitReason = {
  reason: "NO_CAPACITY",
  message: "its place is kept: it starts once what runs there has stopped",
};

/** A reservation of somebody else's keeps a task waiting. One of another organisation is not named. */
export function keptForReservation(
  { id, org }: PlanReservation,
  task: Pick<PlanTask, "org">,
): WaitReason {
  const whose = org === task.org ? id : "a reservation of another organisation";
  return {
    reason: "NO_CAPACITY",
    message: `the GPUs it could take are reserved for a time that it might still run in (${whose})`,
  };
}

/** A limit that a task would pass. */
export function quotaReached({ of, model, limitGpus, heldGpus }: LimitHit): WaitReason {
  const what = model === undefined ? "GPUs" : `${model} GPUs`;
  return {
    reason: "QUOTA_EXCEEDED",
    message: `the ${of} holds ${heldGpus} of at most ${limitGpus} ${what}`,
  };
}

/**
 * Why tasks find no place on the fleet as it stands: worked out once for all of a kind, and what the hardware alone
 * decides once for as long as it is the same.
 */
export class CapacityReasons {
  private readonly fleet: Fleet;
  private readonly byKind = new Map<string, WaitReason>();
  /** By kind: why it could never run; undefined where it could. */
  private readonly never = new Map<string, WaitReason | undefined>();
  private hardware = -1;

  constructor(fleet: Fleet) {
    this.fleet = fleet;
  }

  /** The fleet has changed since the last answer. */
  begin(): void {
    this.byKind.clear();
    if (this.hardware !== this.fleet.hardware) this.never.clear();
    this.hardware = this.fleet.hardware;
  }

  of(task: PlanTask): WaitReason {
    const { fleet } = this;
    if (fleet.entries.size === 0) return noWorker;
    const shape = fleet.shapeOf(task, task.demand.gpuModels);
    if (shape === undefined) return noSuchPlace(task);
    const { replicas, topology, demand } = task;
    const key = `${shape.id} ${demand.runtime} ${replicas} ${topology.within} ${topology.spreadOver}`;
    let reason = this.byKind.get(key);
    if (reason === undefined) {
      this.byKind.set(key, (reason = this.neverOf(task, { shape, key }) ?? this.now(task, shape)));
    }
    return reason;
  }

  private neverOf(task: PlanTask, of: { shape: Shape; key: string }): WaitReason | undefined {
    const { shape, key } = of;
    const known = this.never.get(key);
    if (known !== undefined || this.never.has(key)) return known;
    const reason = neverReason(this.fleet, task, shape);
    this.never.set(key, reason);
    return reason;
  }

  private now(task: PlanTask, shape: Shape): WaitReason {
    const { fleet } = this;
    const report = describe(fleet.free.explain(shape));
    if (task.replicas === 1) return { reason: "NO_CAPACITY", message: report };
    const lacking = task.replicas - mostMembers(fleet, fleet.free, task);
    const message = `${lacking} of ${task.replicas} members find no place${where(task)}; ${report}`;
    return { reason: "NO_CAPACITY", message };
  }
}

const noWorker: WaitReason = { reason: "NO_CAPACITY", message: "no worker has joined yet" };

function noSuchPlace({ demand: { part } }: PlanTask): WaitReason {
  const message =
    part?.kind === "mig" && !migProfiles.has(part.profile)
      ? `no GPU is ever divided into ${part.profile}`
      : "no node is ever this large";
  return { reason: "UNSATISFIABLE", message };
}

/** Why a task could not even run with nothing else on the fleet. */
function neverReason(fleet: Fleet, task: PlanTask, shape: Shape): WaitReason | undefined {
  const { runtime } = task.demand;
  if (fleet.running(runtime) === 0) {
    return { reason: "UNSATISFIABLE", message: `no worker runs tasks as a ${runtime}` };
  }
  const possible = fleet.empty.explain(fleet.empty.shape(shape));
  if (possible.fitting === 0) return { reason: "UNSATISFIABLE", message: describe(possible) };
  if (task.replicas === 1) return undefined;
  const most = mostMembers(fleet, fleet.empty, task);
  if (most >= task.replicas) return undefined;
  return { reason: "UNSATISFIABLE", message: neverWhole(task, most) };
}

/** The greatest gang of this kind that an engine has room for, up to the one asked for. */
function mostMembers(fleet: Fleet, engine: PlacementEngine, task: PlanTask): number {
  const lists =
    task.demand.gpuModels.length > 1
      ? task.demand.gpuModels.map((model) => [model])
      : [task.demand.gpuModels];
  let most = 0;
  for (const models of lists) {
    const known = fleet.shapeOf(task, models);
    if (known === undefined) continue;
    const shape = engine.shape(known);
    const fits = (count: number): boolean => {
      const draft = engine.draft();
      const members = Array.from({ length: count }, () => shape);
      const { runtime } = task.demand;
      const allowed = (node: number): boolean => fleet.runs(node, runtime);
      const only = fleet.running(runtime) === fleet.entries.size ? {} : { allowed };
      const places = placeGang(engine, draft, { members, topology: task.topology, ...only });
      draft.rollback();
      return places !== undefined;
    };
    let low = 0;
    const whole = Math.min(task.replicas, mostWhole(engine, shape));
    let high = whole;
    while (low < high) {
      // Where the whole gang fits there is nothing to search.
      const middle = high === whole && low === 0 ? high : (low + high + 1) >> 1;
      if (fits(middle)) low = middle;
      else high = middle - 1;
    }
    most = Math.max(most, low);
  }
  return most;
}

/** A bound on how many members could have their GPUs: no more than what is free would hold, wherever it lies. */
function mostWhole({ cluster }: PlacementEngine, { gpus, gpuMilli, models }: Shape): number {
  if (gpus === 0 || gpuMilli !== 1000) return Number.POSITIVE_INFINITY;
  const { supply, kinds } = cluster;
  let free = 0;
  for (const [model, milli] of supply.freeByModel.entries()) {
    if (models === null || models.includes(kinds.models[model]!)) free += milli;
  }
  return Math.floor(free / (gpus * gpuMilli));
}

const placeNames = { node: "node", nvlink: "NVLink domain", rack: "rack" } as const;

function where({ topology }: PlanTask): string {
  const { within, spreadOver } = topology;
  const inside = within === undefined ? "" : ` within one ${placeNames[within]}`;
  const spread = spreadOver === undefined ? "" : `, each on another ${placeNames[spreadOver]}`;
  return `${inside}${spread}`;
}

function neverWhole(task: PlanTask, most: number): string {
  return `the fleet never holds all ${task.replicas} members${where(task)}: at most ${most}, even with nothing else running`;
}

const words: Readonly<Record<FitReport["blockers"][number]["reason"], string>> = {
  node_unschedulable: "takes no work",
  gpu_model: "has too few GPUs of the model",
  gpu_simulated: "has only simulated GPUs",
  gpu_isolation: "keeps tenants apart too weakly",
  gpu_mig: "gives out its GPUs in other instances",
  gpu_memory: "has too little GPU memory",
  gpu_count: "has too few GPUs",
  gpu_shared_with_other_tenant: "shares its GPUs with others",
  gpu_busy: "has its GPUs busy",
  cpu: "has too little CPU free",
  memory: "has too little memory free",
  disk: "has too little disk free",
};

function describe(report: FitReport): string {
  const { nodes, blockers } = report;
  const list = blockers.map(({ reason, nodes: count }) => `${count} × ${words[reason]}`).join(", ");
  return `${nodes} node${nodes === 1 ? "" : "s"}: ${list || "taken in this cycle"}`;
}
