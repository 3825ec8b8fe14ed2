import type { GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { PlacementEngine, type PolicyName } from "../placement/engine.ts";
import type { LearnedMix } from "../placement/mix.ts";
import type { NodeSpec } from "../placement/nodes.ts";
import { checkRequest, emptyRequest, type Shape } from "../placement/shapes.ts";
import type { Demand, PlanGpu, PlanLease, PlanNode, Rng } from "../plan.ts";

/** Largest node that a worker may announce. */
const maxGpusPerNode = 64;

/** A lease as the engine has it: what of the node it holds, its GPUs by their position in the node's list. */
export interface Held {
  readonly lease: PlanLease;
  readonly shape: Shape;
  readonly gpus: readonly number[];
}

/** GPUs of a node that only one task may take, by position. */
export interface Kept {
  /** Free for it now. */
  readonly idle: readonly number[];
  /** Not leased and not free yet, e.g. being cleaned: about to be. */
  readonly busy: readonly number[];
}

/** One node as the fleet has it. */
export interface Entry {
  readonly node: PlanNode;
  /** Its number in both engines. */
  readonly index: number;
  /** What runs on it; undefined where it is more than the node has, so that the engine has none of it. */
  readonly held: readonly Held[] | undefined;
  /** Its GPUs that are reserved and not leased. */
  readonly kept: ReadonlyMap<TaskId, Kept>;
  /** Tasks for which a lease that holds one of its GPUs is being stopped. */
  readonly clearing: readonly TaskId[];
  /** All its GPUs are of one kind: what holds for the first holds for each. */
  readonly alike: boolean;
}

/**
 * The fleet twice: as it is, and as it would be with nothing on it. Kept from plan to plan; a plan takes from it and
 * gives back on a draft, and a node that is the same object costs nothing to take in again.
 */
export class Fleet {
  readonly free: PlacementEngine;
  /** Tells what could never run from what has to wait. */
  readonly empty: PlacementEngine;
  readonly entries = new Map<NodeId, Entry>();
  /** The GPUs' nodes and positions. */
  readonly gpus = new Map<GpuId, { readonly index: number; readonly at: number }>();
  /** GPUs that only one task may take and that nothing holds, by task. */
  readonly keptFor = new Map<TaskId, { index: number; at: number; idle: boolean }[]>();
  /** Nodes with GPUs that are, or will be, reserved for a task. */
  readonly nodesFor = new Map<TaskId, Set<number>>();
  /** Tasks for which GPUs are still being freed. */
  readonly clearing = new Set<TaskId>();
  /** What keeps one GPU from being given out, and nothing else. */
  readonly oneGpu: Shape;
  private readonly byIndex: (Entry | undefined)[] = [];
  /** Numbers of the nodes by their ids. */
  private ranked: readonly number[] | undefined;
  private sorted: readonly Entry[] | undefined;

  constructor(free: PlacementEngine, empty: PlacementEngine) {
    this.free = free;
    this.empty = empty;
    this.oneGpu = free.shape({ ...emptyRequest, gpus: 1, gpuMilli: 1000 });
  }

  /** Takes in what has changed since the last cycle: an unchanged node is the same object. */
  sync(nodes: readonly PlanNode[]): void {
    for (const node of nodes) if (this.entries.get(node.id)?.node !== node) this.put(node);
    if (this.entries.size > nodes.length) {
      const there = new Set(nodes.map(({ id }) => id));
      for (const entry of this.entries.values()) if (!there.has(entry.node.id)) this.remove(entry);
    }
    this.keptFor.clear();
    this.clearing.clear();
    this.nodesFor.clear();
    const note = (task: TaskId, index: number): void => {
      const known = this.nodesFor.get(task);
      if (known === undefined) this.nodesFor.set(task, new Set([index]));
      else known.add(index);
    };
    for (const { index, kept, clearing } of this.entries.values()) {
      for (const task of clearing) {
        this.clearing.add(task);
        note(task, index);
      }
      for (const [task, { idle, busy }] of kept) {
        const own = this.keptFor.get(task) ?? [];
        for (const at of idle) own.push({ index, at, idle: true });
        for (const at of busy) own.push({ index, at, idle: false });
        if (busy.length > 0) this.clearing.add(task);
        note(task, index);
        this.keptFor.set(task, own);
      }
    }
  }

  /** The nodes by their ids. */
  get inOrder(): readonly Entry[] {
    this.ranked ??= [...this.entries.values()]
      .sort((a, b) => (a.node.id < b.node.id ? -1 : 1))
      .map(({ index }) => index);
    return (this.sorted ??= this.ranked.map((index) => this.at(index)));
  }

  /** A node by its number in the engines. */
  at(index: number): Entry {
    const entry = this.byIndex[index];
    if (entry === undefined) throw new RangeError(`no node ${index}`);
    return entry;
  }

  /** Whether a node runs tasks of this kind. */
  runs(index: number, runtime: string): boolean {
    return this.byIndex[index]?.node.runtimes.includes(runtime) ?? false;
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

  private put(node: PlanNode): void {
    const known = this.entries.get(node.id);
    if (known !== undefined) this.forgetGpus(known);
    const index = known?.index ?? this.free.addNode(specOf(node, false));
    // Both engines get the same nodes in the same order, so an index means the same in both.
    if (known === undefined) this.empty.addNode(specOf(node, true));
    else this.empty.replaceNode(index, specOf(node, true), []);
    const entry = this.enter(node, index);
    this.entries.set(node.id, entry);
    this.byIndex[index] = entry;
    this.sorted = undefined;
    if (known === undefined) this.ranked = undefined;
    for (const [at, { id }] of node.gpus.entries()) this.gpus.set(id, { index, at });
  }

  private remove(entry: Entry): void {
    this.free.removeNode(entry.index);
    this.empty.removeNode(entry.index);
    this.forgetGpus(entry);
    this.entries.delete(entry.node.id);
    this.byIndex[entry.index] = undefined;
    this.sorted = undefined;
    this.ranked = undefined;
  }

  private enter(node: PlanNode, index: number): Entry {
    const alike = areAlike(node.gpus);
    const positions = new Map(node.gpus.map(({ id }, at) => [id, at]));
    const held = node.running.map((lease) => this.holds(lease, positions));
    // A node that announces less than what runs on it takes nothing more until that has ended.
    if (holdsMoreThanItHas(node)) {
      this.free.replaceNode(index, { ...specOf(node, false), schedulable: false }, []);
      return { node, index, held: undefined, kept: new Map(), clearing: [], alike };
    }
    const leased = new Set(held.flatMap(({ gpus }) => gpus));
    const kept = keptOf(node, leased);
    const clearing = [...leased].flatMap((at) => node.gpus[at]!.reservedFor ?? []);
    const blocks = [...kept.values()].flatMap(({ idle, busy }) =>
      [...idle, ...busy].map((at) => ({ shape: this.oneGpu, gpus: [at] })),
    );
    this.free.replaceNode(index, specOf(node, false), [...held, ...blocks]);
    return { node, index, held, kept, clearing, alike };
  }

  private holds(lease: PlanLease, positions: ReadonlyMap<GpuId, number>): Held {
    // A GPU that the worker no longer lists holds nothing that could be given out.
    const gpus = lease.gpus.flatMap((id) => positions.get(id) ?? []);
    const { cpuMillis, memoryMib, diskMib } = lease;
    const gpuMilli = gpus.length > 0 ? 1000 : 0;
    const request = { ...emptyRequest, gpus: gpus.length, gpuMilli };
    return {
      lease,
      gpus,
      shape: this.free.shape({ ...request, cpuMillis, memoryMib, diskMib }),
    };
  }

  private forgetGpus({ node, index }: Entry): void {
    for (const { id } of node.gpus) if (this.gpus.get(id)?.index === index) this.gpus.delete(id);
  }
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

/** Whether GPUs differ in nothing that a task could ask for. */
const areAlike = (gpus: readonly PlanGpu[]): boolean =>
  gpus.every(
    ({ model, memoryMib, simulated, mode }) =>
      model === gpus[0]!.model &&
      memoryMib === gpus[0]!.memoryMib &&
      simulated === gpus[0]!.simulated &&
      mode === gpus[0]!.mode,
  );

/** Reserved GPUs that nothing holds, by their task. */
function keptOf(node: PlanNode, held: ReadonlySet<number>): Map<TaskId, Kept> {
  const kept = new Map<TaskId, { idle: number[]; busy: number[] }>();
  for (const [at, gpu] of node.gpus.entries()) {
    if (gpu.reservedFor === undefined || held.has(at)) continue;
    let own = kept.get(gpu.reservedFor);
    if (own === undefined) kept.set(gpu.reservedFor, (own = { idle: [], busy: [] }));
    (gpu.free ? own.idle : own.busy).push(at);
  }
  return kept;
}

/** Whether a worker came back with less than what still runs there. */
function holdsMoreThanItHas(node: PlanNode): boolean {
  let [cpuMillis, memoryMib, diskMib] = [0, 0, 0];
  for (const lease of node.running) {
    cpuMillis += lease.cpuMillis;
    memoryMib += lease.memoryMib;
    diskMib += lease.diskMib;
  }
  return cpuMillis > node.cpuMillis || memoryMib > node.memoryMib || diskMib > node.diskMib;
}

function specOf(node: PlanNode, empty: boolean): NodeSpec {
  const leased = new Set(node.running.flatMap(({ gpus }) => gpus));
  // A GPU that is neither free nor leased nor kept for a task (unknown, being cleaned, out of use) takes no lease.
  const open = (gpu: PlanGpu): boolean =>
    empty || gpu.free || gpu.reservedFor !== undefined || leased.has(gpu.id);
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
      capacityMilli: open(gpu) ? 1000 : 0,
      isolation: "exclusive",
      simulated: gpu.simulated,
    })),
  };
}
