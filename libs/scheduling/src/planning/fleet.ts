import type { GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { PlacementEngine, type PolicyName } from "../placement/engine.ts";
import type { LearnedMix } from "../placement/mix.ts";
import type { NodeSpec } from "../placement/nodes.ts";
import { checkRequest, emptyRequest, type Shape } from "../placement/shapes.ts";
import type { PlanGpu, PlanLease, PlanNode, PlanTask, Rng } from "../plan.ts";
import { heldRequest, isShared, overdrawn, requestOf, takenMilli } from "./parts.ts";

/** Largest node that a worker may announce. */
const maxGpusPerNode = 64;

/** A lease as the engine has it: what of the node it holds, its GPUs by their position in the node's list. */
export interface Held {
  readonly lease: PlanLease;
  readonly shape: Shape;
  readonly gpus: readonly number[];
  /** Of MIG instances, the first memory slice of each. */
  readonly starts?: readonly number[];
}

/** A GPU of a node that only one task may take, by position, as far as nothing holds it. */
export interface Kept {
  readonly at: number;
  /** Free for it now; otherwise not leased and not free yet, e.g. being cleaned: about to be. */
  readonly idle: boolean;
  /** What keeps the rest of it from being given out; undefined: there is no rest. */
  readonly fill: Shape | undefined;
}

/** One node as the fleet has it. */
export interface Entry {
  readonly node: PlanNode;
  /** Its number in both engines. */
  readonly index: number;
  /** What runs on it; undefined where it is more than the node has, so that the engine has none of it. */
  readonly held: readonly Held[] | undefined;
  /** Its GPUs that are reserved and not leased as a whole. */
  readonly kept: ReadonlyMap<TaskId, readonly Kept[]>;
  /** Tasks for which a lease that holds one of its GPUs is being stopped. */
  readonly clearing: readonly TaskId[];
  /** All its GPUs are of one kind: what holds for the first holds for each. */
  readonly alike: boolean;
  /** Nodes of one class run the same kinds of task and have as many GPUs; where those are alike, of the same kind. */
  readonly class: number;
  /** Whether any of its GPUs is given out in parts. */
  readonly shared: boolean;
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
  readonly keptFor = new Map<TaskId, (Kept & { readonly index: number })[]>();
  /** Nodes with GPUs that are, or will be, reserved for a task. */
  readonly nodesFor = new Map<TaskId, Set<number>>();
  /** Tasks for which GPUs are still being freed. */
  readonly clearing = new Set<TaskId>();
  /** What keeps one GPU from being given out, and nothing else. */
  readonly oneGpu: Shape;
  private readonly byIndex: (Entry | undefined)[] = [];
  /** Counts changes of what nodes are, whatever runs on them. */
  hardware = 0;
  private readonly shapes = new WeakMap<
    PlanTask["demand"],
    { readonly models: readonly string[]; readonly shape: Shape | undefined }[]
  >();
  private readonly runtimes = new Map<string, number>();
  private readonly classes = new Map<string, number>();
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
      for (const [task, gpus] of kept) {
        const own = this.keptFor.get(task) ?? [];
        for (const each of gpus) own.push({ ...each, index });
        if (gpus.some(({ idle }) => !idle)) this.clearing.add(task);
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

  /** The numbers of all nodes are below this. */
  get numbers(): number {
    return this.byIndex.length;
  }

  /** A node by its number in the engines. */
  at(index: number): Entry {
    const entry = this.byIndex[index];
    if (entry === undefined) throw new RangeError(`no node ${index}`);
    return entry;
  }

  /** A node by its number in the engines, if it is there. */
  find(index: number): Entry | undefined {
    return this.byIndex[index];
  }

  /** Whether a node runs tasks of this kind. */
  runs(index: number, runtime: string): boolean {
    return this.byIndex[index]?.node.runtimes.includes(runtime) ?? false;
  }

  /** How many nodes run tasks of this kind. */
  running(runtime: string): number {
    let count = this.runtimes.get(runtime);
    if (count === undefined) {
      count = 0;
      for (const { node } of this.entries.values()) if (node.runtimes.includes(runtime)) count++;
      this.runtimes.set(runtime, count);
    }
    return count;
  }

  /** What a task demands as the engine's class; undefined where no engine takes such a request. */
  shapeOf(of: Pick<PlanTask, "demand" | "org">, models: readonly string[]): Shape | undefined {
    const { demand } = of;
    // Who else may be on its GPUs depends on the organisation.
    if (demand.part !== undefined) return this.shapeAnew(of, models);
    const known = this.shapes.get(demand);
    const asked = known?.find((each) => each.models === models || isSameList(each.models, models));
    if (asked !== undefined) return asked.shape;
    const shape = this.shapeAnew(of, models);
    if (known === undefined) this.shapes.set(demand, [{ models, shape }]);
    else known.push({ models, shape });
    return shape;
  }

  private shapeAnew(
    of: Pick<PlanTask, "demand" | "org">,
    models: readonly string[],
  ): Shape | undefined {
    const request = requestOf(of, models);
    return checkRequest(request) === undefined ? this.free.shape(request) : undefined;
  }

  private put(node: PlanNode): void {
    const known = this.entries.get(node.id);
    if (known !== undefined) this.forgetGpus(known);
    const index = known?.index ?? this.free.addNode(specOf(node, false));
    // Both engines get the same nodes in the same order, so an index means the same in both.
    if (known === undefined) this.empty.addNode(specOf(node, true));
    const same = known !== undefined && isSameHardware(known.node, node);
    if (known !== undefined && !same) this.empty.replaceNode(index, specOf(node, true), []);
    if (!same) this.hardwareChanged();
    const entry = this.enter(node, index);
    this.entries.set(node.id, entry);
    this.byIndex[index] = entry;
    this.sorted = undefined;
    if (known === undefined) this.ranked = undefined;
    for (const [at, { id }] of node.gpus.entries()) this.gpus.set(id, { index, at });
  }

  private classOf({ runtimes, gpus }: PlanNode, alike: boolean): number {
    const first = gpus[0];
    const kind =
      alike && first !== undefined
        ? `${first.model} ${first.memoryMib} ${first.simulated}`
        : gpus.length > 0;
    const key = `${runtimes.join()} ${gpus.length} ${kind}`;
    const known = this.classes.get(key);
    if (known !== undefined) return known;
    this.classes.set(key, this.classes.size);
    return this.classes.size - 1;
  }

  private hardwareChanged(): void {
    this.hardware++;
    this.runtimes.clear();
  }

  private remove(entry: Entry): void {
    this.hardwareChanged();
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
    const kind = { alike, class: this.classOf(node, alike) };
    const positions = new Map(node.gpus.map(({ id }, at) => [id, at]));
    const held = node.running.map((lease) => this.holds(lease, node, positions));
    // A node that announces less than what runs on it takes nothing more until that has ended.
    const shared = isShared(node);
    if (holdsMoreThanItHas(node) || (shared && overdrawn(node, held))) {
      this.free.replaceNode(index, { ...specOf(node, false), schedulable: false }, []);
      return { node, index, held: undefined, kept: new Map(), clearing: [], shared, ...kind };
    }
    const kept = this.keptOf(node, held);
    // Whoever holds a part of a reserved GPU may stay, unless it was told to stop.
    const leaving = shared
      ? held.filter(({ lease, shape }) => lease.stopping || isWhole(shape))
      : held;
    const clearing = [...new Set(leaving.flatMap(({ gpus }) => gpus))].flatMap(
      (at) => node.gpus[at]!.reservedFor ?? [],
    );
    this.free.replaceNode(index, specOf(node, false), []);
    for (const { shape, gpus, starts } of held) {
      this.free.take(
        shape,
        starts === undefined ? { node: index, gpus } : { node: index, gpus, starts },
      );
    }
    for (const { at, fill } of [...kept.values()].flat()) {
      if (fill !== undefined) this.free.take(fill, { node: index, gpus: [at] });
    }
    return { node, index, held, kept, clearing, shared, ...kind };
  }

  /** What keeps so much of one GPU from being given out, on a GPU that this organisation shares ("": nobody). */
  filler(milli: number, owner: string): Shape {
    if (milli >= 1000) return this.oneGpu;
    return this.free.shape({ ...emptyRequest, gpus: 1, gpuMilli: milli, owner });
  }

  private holds(lease: PlanLease, node: PlanNode, positions: ReadonlyMap<GpuId, number>): Held {
    // A GPU that the worker no longer lists holds nothing that could be given out.
    const listed = lease.gpus.flatMap((id, nth) => {
      const at = positions.get(id);
      return at === undefined ? [] : [{ at, nth }];
    });
    const gpus = listed.map(({ at }) => at);
    const { cpuMillis, memoryMib, diskMib } = lease;
    const host = { ...emptyRequest, gpus: gpus.length, cpuMillis, memoryMib, diskMib };
    const part = heldRequest(
      lease,
      gpus.map((at) => node.gpus[at]!),
    );
    const whole = { gpuMilli: gpus.length > 0 ? 1000 : 0 };
    const shape = this.free.shape({ ...host, ...(part ?? whole) });
    if (lease.part?.kind !== "mig" || shape.mig === undefined) return { lease, gpus, shape };
    const { starts } = lease.part;
    return { lease, gpus, shape, starts: listed.map(({ nth }) => starts[nth] ?? 0) };
  }

  /** Reserved GPUs of which nothing is leased, or parts only, by their task. */
  private keptOf(node: PlanNode, held: readonly Held[]): Map<TaskId, Kept[]> {
    const kept = new Map<TaskId, Kept[]>();
    for (const [at, gpu] of node.gpus.entries()) {
      if (gpu.reservedFor === undefined) continue;
      const holders = held.filter(({ gpus }) => gpus.includes(at));
      if (holders.some(({ shape }) => isWhole(shape))) continue;
      const left = 1000 - takenMilli(holders);
      const owner = holders[0]?.shape.owner ?? "";
      const fill = left <= 0 ? undefined : this.filler(left, owner);
      const own = kept.get(gpu.reservedFor);
      const one = { at, idle: gpu.free, fill };
      if (own === undefined) kept.set(gpu.reservedFor, [one]);
      else own.push(one);
    }
    return kept;
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

const isSameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((each, at) => each === b[at]);

/** Whether a node is still what it was, whatever runs on it. */
const isSameHardware = (a: PlanNode, b: PlanNode): boolean =>
  a.cpuMillis === b.cpuMillis &&
  a.memoryMib === b.memoryMib &&
  a.diskMib === b.diskMib &&
  a.gpus.length === b.gpus.length &&
  a.gpus.every((gpu, at) => isSameGpu(gpu, b.gpus[at]!)) &&
  (a.runtimes === b.runtimes || a.runtimes.join() === b.runtimes.join()) &&
  (a.topology === b.topology || JSON.stringify(a.topology) === JSON.stringify(b.topology));

const isSameGpu = (a: PlanGpu, b: PlanGpu): boolean => a === b || (a.id === b.id && isAlike(a, b));

/** Whether GPUs differ in nothing that a task could ask for. */
const areAlike = (gpus: readonly PlanGpu[]): boolean => gpus.every((gpu) => isAlike(gpu, gpus[0]!));

const isAlike = (a: PlanGpu, b: PlanGpu): boolean =>
  a.model === b.model &&
  a.memoryMib === b.memoryMib &&
  a.simulated === b.simulated &&
  (a.mode === b.mode || JSON.stringify(a.mode) === JSON.stringify(b.mode));

const isWhole = ({ gpuMilli, mig }: Shape): boolean => gpuMilli >= 1000 && mig === undefined;

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
  const leased = new Set(
    node.running.flatMap(({ gpus, part }) => (part === undefined ? gpus : [])),
  );
  // A GPU that is neither free nor leased nor kept for a task (unknown, being cleaned, out of use) takes no lease, nor
  // does one of which parts are leased and no more are given out.
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
      isolation: gpu.mode?.isolation ?? "exclusive",
      simulated: gpu.simulated,
      ...(gpu.mode?.isolation === "mig" ? { mig: gpu.mode.geometry } : {}),
    })),
  };
}
