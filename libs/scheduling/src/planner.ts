import type { GpuId, NodeId } from "@fastgpu/domain/ids";
import type { FitReport } from "./placement/explain.ts";
import { PlacementEngine, type PolicyName } from "./placement/engine.ts";
import type { LearnedMix } from "./placement/mix.ts";
import type { NodeSpec } from "./placement/nodes.ts";
import { createQueueOrder, type LimitHit, type QueueOrder, type Ready } from "./queue-order.ts";
import type { SchedulingPolicy } from "./scheduling-policy.ts";
import { checkRequest, emptyRequest, type Shape } from "./placement/shapes.ts";
import {
  maxElementsPerLease,
  type Demand,
  type Plan,
  type PlanNode,
  type Placement,
  type PlanState,
  type PlanTask,
  type Rng,
  type WaitReason,
} from "./plan.ts";

/** Plans cycle after cycle. It remembers the fleet, so that a cycle costs what has changed, and the arrivals seen. */
export interface Planner {
  /**
   * Decides one cycle: synchronous, no clock, no IO. Tasks go in the order of the queues (queue-order.ts); where each
   * goes is the placement engine's decision. What does not start gets its reason.
   */
  plan(state: PlanState, now: number): Plan;
  /** Plans by another policy from the next cycle on. What was learned of arrivals is kept. */
  setPolicy(policy: SchedulingPolicy): void;
  /** What was learned of arrivals, as plain data: a new planner that is given it goes on from there. */
  learned(): Learned;
}

/** What a planner has learned. */
export interface Learned {
  readonly mix: LearnedMix;
  /** Tasks that are counted in it, the earliest first; the oldest may be forgotten. */
  readonly seen: readonly string[];
}

/** Largest node that a worker may announce. */
const maxGpusPerNode = 64;

/** A planner without a fleet. */
export function createPlanner(options: {
  policy: SchedulingPolicy;
  rng: Rng;
  learned?: Learned | undefined;
}): Planner {
  const { rng } = options;
  let { policy } = options;
  const start = (learned: LearnedMix | undefined) =>
    emptyFleet({ policy: policy.placement, rng, learned });
  let fleet = start(options.learned?.mix);
  const seen = new Set(options.learned?.seen);
  return {
    setPolicy(next) {
      const { placement } = policy;
      policy = next;
      if (next.placement !== placement) fleet = start(fleet.free.mix.learned());
    },
    learned: () => ({ mix: fleet.free.mix.learned(), seen: [...seen] }),
    plan(state, now) {
      fleet.sync(state.nodes);
      observeArrivals(fleet, seen, state.tasks);
      const order = createQueueOrder(state);
      const taken = new Map<PlanTask, Place[]>();
      const ready = withShapes(state.tasks.filter((task) => mayStart(task, now)));
      // What a plan takes is a trial: the commit decides, and the next state tells.
      const trial = fleet.trial();
      try {
        order.walk(ready, now, (task) => {
          const place = trial.place(task);
          if (place === undefined) return false;
          const places = taken.get(task);
          if (places === undefined) taken.set(task, [place]);
          else places.push(place);
          return true;
        });
        const reasons = explainWaiting(state.tasks, { fleet, order, ready, taken, now });
        const placements = [...taken].flatMap(([task, places]) => share(task, places));
        return { placements, preemptions: [], reasons, starts: new Map(), moves: [] };
      } finally {
        trial.undo();
      }
    },
  };
}

/** A fleet without nodes; `sync` brings them in. */
export function emptyFleet(of: {
  policy: PolicyName;
  rng: Rng;
  learned?: LearnedMix | undefined;
}): Fleet {
  const { policy, rng, learned } = of;
  const options = { nodes: [], policy, rng, maxGpusPerNode };
  const free = new PlacementEngine(learned === undefined ? options : { ...options, learned });
  return new Fleet(free, new PlacementEngine(options));
}

/** Where one lease goes. */
interface Place {
  readonly node: NodeId;
  readonly gpus: readonly GpuId[];
}

const mayStart = (task: PlanTask, now: number): boolean =>
  task.notBeforeMs <= now && task.array?.leasesLeft !== 0;

/** Numbers tasks by their needs: where one finds no place, none of the same number does. */
function withShapes(tasks: readonly PlanTask[]): Ready[] {
  const byKey = new Map<string, number>();
  const byDemand = new Map<Demand, string>();
  return tasks.map((task) => {
    let key = byDemand.get(task.demand);
    if (key === undefined) {
      key = JSON.stringify(Object.values(task.demand));
      byDemand.set(task.demand, key);
    }
    if (task.excludedGpus.length > 0) key += task.excludedGpus.join();
    let shape = byKey.get(key);
    if (shape === undefined) byKey.set(key, (shape = byKey.size));
    return { task, shape };
  });
}

/** Why each task that got no place waits: looked up once for all tasks of a shape. */
function explainWaiting(
  tasks: readonly PlanTask[],
  from: {
    fleet: Fleet;
    order: QueueOrder;
    ready: readonly Ready[];
    taken: ReadonlyMap<PlanTask, unknown>;
    now: number;
  },
): Map<PlanTask["id"], WaitReason> {
  const { fleet, order, ready, taken, now } = from;
  const reasons = new Map<PlanTask["id"], WaitReason>();
  const byShape = new Map<number, WaitReason>();
  for (const { task, shape } of ready) {
    if (taken.has(task)) continue;
    let reason = byShape.get(shape);
    if (reason === undefined) byShape.set(shape, (reason = fleet.explain(task)));
    const hit = reason.reason === "UNSATISFIABLE" ? undefined : order.limit(task);
    reasons.set(task.id, hit === undefined ? reason : quotaReached(hit));
  }
  for (const task of tasks) {
    if (task.notBeforeMs > now) reasons.set(task.id, backoff);
    else if (task.array?.leasesLeft === 0) reasons.set(task.id, parallelismReached);
  }
  return reasons;
}

const quotaReached = ({ of, limitGpus, heldGpus }: LimitHit): WaitReason => ({
  reason: "QUOTA_EXCEEDED",
  message: `the ${of} holds ${heldGpus} of at most ${limitGpus} GPUs`,
});

const backoff: WaitReason = {
  reason: "RETRY_BACKOFF",
  message: "waits out the pause before a retry",
};

/** Each task counts once in the mix that the default policy learns. */
export function observeArrivals(fleet: Fleet, seen: Set<string>, tasks: readonly PlanTask[]): void {
  for (const task of tasks) {
    if (seen.has(task.id)) continue;
    seen.add(task.id);
    const shape = fleet.shapeOf(task.demand, task.demand.gpuModels);
    if (shape !== undefined) fleet.free.observe(shape);
  }
  if (seen.size <= 100_000) return;
  for (const id of seen) {
    if (seen.size <= 50_000) break;
    seen.delete(id);
  }
}

const parallelismReached: WaitReason = {
  reason: "NO_CAPACITY",
  message: "as many of its elements run as its parallelism allows",
};

/** Spreads an array's elements evenly over the leases that fit at once, so that none drags behind the others. */
function share(task: PlanTask, taken: readonly Place[]): Placement[] {
  let pending = task.array?.pending ?? 0;
  return taken.map(({ node, gpus }, at) => {
    const elements = Math.min(maxElementsPerLease, Math.ceil(pending / (taken.length - at)));
    pending -= elements;
    return { task, elements, members: [{ node, gpus }] };
  });
}

/** Places taken while planning; all are given back at its end. */
export interface Trial {
  place(task: PlanTask): Place | undefined;
  undo(): void;
}

/** One node as the engines have it. */
interface Entry {
  readonly node: PlanNode;
  readonly index: number;
}

/** The fleet twice: as it is, and as it would be with nothing on it. */
export class Fleet {
  readonly free: PlacementEngine;
  /** Tells what could never run from what has to wait. */
  private readonly empty: PlacementEngine;
  private readonly entries = new Map<NodeId, Entry>();
  private readonly byIndex = new Map<number, PlanNode>();

  constructor(free: PlacementEngine, empty: PlacementEngine) {
    this.free = free;
    this.empty = empty;
  }

  /** Takes in what has changed since the last cycle: an unchanged node is the same object. */
  sync(nodes: readonly PlanNode[]): void {
    const gone = new Set(this.entries.keys());
    for (const node of nodes) {
      gone.delete(node.id);
      if (this.entries.get(node.id)?.node !== node) this.put(node);
    }
    for (const id of gone) {
      const entry = this.entries.get(id);
      if (entry === undefined) continue;
      this.free.removeNode(entry.index);
      this.empty.removeNode(entry.index);
      this.entries.delete(id);
      this.byIndex.delete(entry.index);
    }
  }

  private put(node: PlanNode): void {
    const known = this.entries.get(node.id);
    const index = known?.index ?? this.free.addNode(specOf(node, false));
    // Both engines get the same nodes in the same order, so an index means the same in both.
    if (known === undefined) this.empty.addNode(specOf(node, true));
    else this.empty.replaceNode(index, specOf(node, true), []);
    const running = node.running.map((lease) => {
      // A GPU that the worker no longer lists holds nothing that could be given out.
      const gpus = lease.gpus
        .map((id) => node.gpus.findIndex((gpu) => gpu.id === id))
        .filter((at) => at >= 0);
      const { cpuMillis, memoryMib, diskMib } = lease;
      const gpuMilli = gpus.length > 0 ? 1000 : 0;
      const request = {
        ...emptyRequest,
        gpus: gpus.length,
        gpuMilli,
        cpuMillis,
        memoryMib,
        diskMib,
      };
      return { shape: this.free.shape(request), gpus };
    });
    // A node that announces less than what runs on it takes nothing more until that has ended.
    if (holdsMoreThanItHas(node)) {
      this.free.replaceNode(index, { ...specOf(node, false), schedulable: false }, []);
    } else {
      this.free.replaceNode(index, specOf(node, false), running);
    }
    this.entries.set(node.id, { node, index });
    this.byIndex.set(index, node);
  }

  /** The demand as the engine's class; undefined where no engine takes such a request. */
  shapeOf(demand: Demand, models: readonly string[]): Shape | undefined {
    const request = {
      ...emptyRequest,
      gpus: demand.gpuCount,
      gpuMilli: demand.gpuCount > 0 ? 1000 : 0,
      gpuMemoryMib: demand.gpuCount > 0 ? demand.gpuMinMemoryMib : 0,
      models: demand.gpuCount > 0 && models.length > 0 ? models : null,
      allowSimulated: demand.simulatedOk,
      cpuMillis: demand.cpuMillis,
      memoryMib: demand.memoryMib,
      diskMib: demand.diskMib,
    };
    return checkRequest(request) === undefined ? this.free.shape(request) : undefined;
  }

  /** Starts to take places for trial. */
  trial(): Trial {
    const { free } = this;
    const taken: { shape: Shape; placement: { node: number; gpus: readonly number[] } }[] = [];
    return {
      place: (task) => {
        for (const models of preferences(task.demand)) {
          const shape = this.shapeOf(task.demand, models);
          const placement = shape === undefined ? undefined : this.find(task, shape);
          if (shape === undefined || placement === undefined) continue;
          free.take(shape, placement);
          taken.push({ shape, placement });
          const node = this.byIndex.get(placement.node);
          if (node === undefined) return undefined;
          return { node: node.id, gpus: placement.gpus.flatMap((at) => node.gpus[at]?.id ?? []) };
        }
        return undefined;
      },
      undo: () => {
        for (const { shape, placement } of taken.reverse()) free.release(shape, placement);
      },
    };
  }

  /** Where the task should go: the fast way, unless not every node can run it or a GPU is out of bounds for it. */
  private find(task: PlanTask, shape: Shape) {
    const { runtime } = task.demand;
    const fits = (index: number): boolean =>
      this.byIndex.get(index)?.runtimes.includes(runtime) ?? false;
    const excluded = this.block(task.excludedGpus);
    const anywhere = excluded.length === 0 ? this.free.find(shape) : undefined;
    const found =
      anywhere !== undefined && fits(anywhere.node) ? anywhere : this.free.findByScan(shape, fits);
    for (const { block, at } of excluded) this.free.release(block, at);
    return found;
  }

  /** Takes free GPUs that a task must not get, for as long as its place is looked for. */
  private block(ids: readonly GpuId[]) {
    const block = this.free.shape({ ...emptyRequest, gpus: 1, gpuMilli: 1000 });
    return ids.flatMap((id) => {
      for (const [index, node] of this.byIndex) {
        const position = node.gpus.findIndex((gpu) => gpu.id === id && gpu.free);
        if (position < 0) continue;
        const at = { node: index, gpus: [position] };
        try {
          this.free.take(block, at);
        } catch {
          // Taken by an earlier place of this plan: nobody will get it twice.
          return [];
        }
        return [{ block, at }];
      }
      return [];
    });
  }

  /** Why a task was not placed. */
  explain(task: PlanTask): WaitReason {
    const { demand } = task;
    if (this.entries.size === 0) {
      return { reason: "NO_CAPACITY", message: "no worker has joined yet" };
    }
    const shape = this.shapeOf(demand, demand.gpuModels);
    if (shape === undefined) {
      return { reason: "UNSATISFIABLE", message: "no node is ever this large" };
    }
    const runs = [...this.byIndex.values()].filter((node) =>
      node.runtimes.includes(demand.runtime),
    );
    if (runs.length === 0) {
      const message = `no worker runs tasks as a ${demand.runtime}`;
      return { reason: "UNSATISFIABLE", message };
    }
    const possible = this.empty.explain(this.empty.shape(shape));
    const ever = possible.fitting > 0;
    const report = ever ? this.free.explain(shape) : possible;
    return { reason: ever ? "NO_CAPACITY" : "UNSATISFIABLE", message: describe(report) };
  }
}

/** Whether a worker came back with less than what still runs there. */
function holdsMoreThanItHas(node: PlanNode): boolean {
  const sum = (of: (lease: PlanNode["running"][number]) => number): number =>
    node.running.reduce((total, lease) => total + of(lease), 0);
  return (
    sum((lease) => lease.cpuMillis) > node.cpuMillis ||
    sum((lease) => lease.memoryMib) > node.memoryMib ||
    sum((lease) => lease.diskMib) > node.diskMib
  );
}

/** Models one after the other where there is a preference, else all at once. */
function preferences(demand: Demand): readonly (readonly string[])[] {
  return demand.gpuModels.length > 1
    ? demand.gpuModels.map((model) => [model])
    : [demand.gpuModels];
}

function specOf(node: PlanNode, empty: boolean): NodeSpec {
  return {
    id: node.id,
    cpuMillis: node.cpuMillis,
    memoryMib: node.memoryMib,
    diskMib: node.diskMib,
    schedulable: empty || node.acceptsWork,
    topology: node.topology,
    gpus: node.gpus.map((gpu) => ({
      id: gpu.id,
      model: gpu.model,
      memoryMib: gpu.memoryMib,
      // A GPU that is neither free nor leased (unknown, being cleaned, out of use) takes no lease.
      capacityMilli:
        empty || gpu.free || node.running.some(({ gpus }) => gpus.includes(gpu.id)) ? 1000 : 0,
      isolation: "exclusive",
      simulated: gpu.simulated,
    })),
  };
}

const words: Readonly<Record<FitReport["blockers"][number]["reason"], string>> = {
  node_unschedulable: "takes no work",
  gpu_model: "has too few GPUs of the model",
  gpu_simulated: "has only simulated GPUs",
  gpu_isolation: "keeps tenants apart too weakly",
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
