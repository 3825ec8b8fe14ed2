import { lastOrder } from "./bound-tree.ts";
import { migSlices } from "./mig.ts";
import { createGpuKinds } from "./nodes.ts";
import type { GpuKinds, NodeSpec } from "./nodes.ts";
import { migGrade } from "./shapes.ts";
import type { Shape, ShapeTable } from "./shapes.ts";
import { createStateDraft, StateTable, swapGpus } from "./states.ts";
import type { StateDraft } from "./states.ts";
import { Supply } from "./supply.ts";

/** Where one member of a task goes: a node and GPUs of it, by their index in its spec. */
export interface Placement {
  readonly node: number;
  readonly gpus: readonly number[];
  /** For MIG instances, the first memory slice of each. */
  readonly starts?: readonly number[];
}

/** One node as the cluster holds it. */
export interface ClusterNode {
  readonly spec: NodeSpec;
  /** The interned state the node is in; -1 once removed. */
  slot: number;
  /** Canonical position → index of the GPU in the spec. */
  readonly order: number[];
  /** Position by node id; the tie-break of every policy. */
  rank: number;
}

/**
 * The nodes and what is free on them, changed one placement at a time.
 * Every change of a slot is logged, so that indexes over slots can follow lazily.
 */
export class Cluster {
  readonly kinds: GpuKinds = createGpuKinds();
  readonly shapes: ShapeTable;
  readonly states: StateTable;
  readonly supply: Supply;
  readonly nodes: ClusterNode[] = [];
  /** Thousandths that may be given out, over all schedulable GPUs. */
  capacityMilli = 0;
  /**
   * Slots that changed: change number n is at n modulo the length, a power of two, so that only
   * the last ones are kept.
   */
  changed = new Int32Array(1024);
  changes = 0;
  /** By slot, side by side: the number of its last change, and of its last change of content. */
  latest = new Float64Array(0);

  private readonly byId = new Map<string, number>();
  private readonly members: number[][] = [];
  private nodeAtRank: number[] = [];
  private ranked = true;
  private orders = new Int32Array(0);
  /** `changes` before the step under way: nobody has read the log since. */
  private stepStart = 0;
  private readonly draft: StateDraft;

  constructor(options: { readonly shapes: ShapeTable; readonly maxGpusPerNode: number }) {
    this.shapes = options.shapes;
    this.states = new StateTable(options.maxGpusPerNode);
    this.supply = new Supply(this.states, this.kinds);
    this.draft = createStateDraft(this.states.mostGpus);
  }

  /** Adds an empty node. Throws RangeError on a known id or too many GPUs. */
  addNode(spec: NodeSpec): number {
    if (this.byId.has(spec.id)) throw new RangeError(`node ${spec.id} is there already`);
    if (spec.gpus.length > this.states.mostGpus) {
      throw new RangeError(
        `node ${spec.id} has ${spec.gpus.length} GPUs, at most ${this.states.mostGpus}`,
      );
    }
    const node = this.nodes.length;
    const order = spec.gpus.map((_, index) => index);
    this.nodes.push({ spec, slot: -1, order, rank: -1 });
    this.byId.set(spec.id, node);
    this.ranked = false;
    this.enterEmpty(node);
    return node;
  }

  /** Gives a node another spec under its index, with nothing placed on it. */
  replaceNode(node: number, spec: NodeSpec): void {
    const old = this.nodes[node]!;
    if (old.slot < 0 || old.spec.id !== spec.id) {
      throw new RangeError(`node ${spec.id} is not at index ${node}`);
    }
    if (spec.gpus.length > this.states.mostGpus) {
      throw new RangeError(
        `node ${spec.id} has ${spec.gpus.length} GPUs, at most ${this.states.mostGpus}`,
      );
    }
    this.countCapacity(old.spec, -1);
    this.leave(node);
    const order = spec.gpus.map((_, index) => index);
    this.nodes[node] = { spec, slot: -1, order, rank: old.rank };
    this.enterEmpty(node);
  }

  /** Removes a node and whatever is placed on it; its index is never used again. */
  removeNode(node: number): void {
    const entry = this.nodes[node]!;
    if (entry.slot < 0) return;
    this.countCapacity(entry.spec, -1);
    this.leave(node);
    this.byId.delete(entry.spec.id);
  }

  /** The index of a node by id. */
  find(id: string): number | undefined {
    return this.byId.get(id);
  }

  /** Takes a shape's resources on a node; the caller has checked that they are free. */
  place(shape: Shape, placement: Placement): void {
    this.change(shape, placement, -1);
  }

  /** Gives back what `place` took. */
  release(shape: Shape, placement: Placement): void {
    this.change(shape, placement, 1);
  }

  /** The node with the lowest id among those in a slot. */
  firstNode(slot: number): number {
    this.ensureRanks();
    return this.nodeAtRank[this.firstRank(slot)]!;
  }

  /** The lowest rank (position by id) among the nodes of a used slot. */
  firstRank(slot: number): number {
    return -this.order[slot]!;
  }

  /**
   * By slot, minus its lowest rank; `lastOrder` where no node is in it. Where it rises, the
   * slot is logged as changed.
   */
  get order(): Int32Array {
    this.ensureRanks();
    return this.orders;
  }

  private countCapacity(spec: NodeSpec, sign: 1 | -1): void {
    if (!spec.schedulable) return;
    for (const gpu of spec.gpus) this.capacityMilli += sign * gpu.capacityMilli;
  }

  private enterEmpty(node: number): void {
    const { spec } = this.nodes[node]!;
    const { draft } = this;
    draft.schedulable = spec.schedulable ? 1 : 0;
    draft.cpuMillis = spec.cpuMillis;
    draft.memoryMib = spec.memoryMib;
    draft.diskMib = spec.diskMib;
    draft.gpus = spec.gpus.length;
    for (const [index, gpu] of spec.gpus.entries()) {
      draft.kind[index] = this.kinds.intern(gpu).id;
      draft.freeMilli[index] = gpu.capacityMilli;
      draft.freeMib[index] = gpu.memoryMib;
      draft.owner[index] = 0;
    }
    this.countCapacity(spec, 1);
    this.stepStart = this.changes;
    this.enter(node);
  }

  private change(shape: Shape, placement: Placement, sign: 1 | -1): void {
    const entry = this.nodes[placement.node]!;
    const { draft, states, kinds } = this;
    states.read(entry.slot, draft);
    draft.cpuMillis += sign * shape.cpuMillis;
    draft.memoryMib += sign * shape.memoryMib;
    draft.diskMib += sign * shape.diskMib;
    for (let index = 0; index < placement.gpus.length; index++) {
      const gpu = placement.gpus[index]!;
      const at = entry.order.indexOf(gpu);
      const kind = kinds.kinds[draft.kind[at]!]!;
      draft.freeMilli[at]! += sign * shape.gpuMilli;
      draft.freeMib[at]! += sign * memoryTaken(shape, kind.memoryMib);
      if (shape.mig !== undefined) {
        const slices = migSlices(shape.mig, placement.starts?.[index] ?? 0);
        const held = draft.owner[at]! & slices;
        if (held !== (sign < 0 ? 0 : slices)) {
          throw new RangeError(`slices of GPU ${gpu} of node ${entry.spec.id} are not as said`);
        }
        draft.owner[at]! ^= slices;
        continue;
      }
      const idle = draft.freeMilli[at]! >= kind.capacityMilli;
      if (idle) draft.owner[at] = 0;
      else if (sign < 0 && kind.grade !== migGrade) draft.owner[at] = shape.ownerId;
      // A GPU that takes no new lease (capacity 0) still holds those it has.
      const least = kind.capacityMilli === 0 ? -1000 : 0;
      if (draft.freeMilli[at]! < least || draft.freeMib[at]! < 0) {
        throw new RangeError(
          `GPU ${gpu} of node ${entry.spec.id} is given out beyond its capacity`,
        );
      }
    }
    if (draft.cpuMillis < 0 || draft.memoryMib < 0 || draft.diskMib < 0) {
      throw new RangeError(`node ${entry.spec.id} is given out beyond its capacity`);
    }
    this.leave(placement.node);
    this.enter(placement.node);
  }

  private leave(node: number): void {
    const entry = this.nodes[node]!;
    const { slot } = entry;
    this.stepStart = this.changes;
    entry.slot = -1;
    this.supply.count(slot, -1);
    this.states.release(slot, this.logContent);
    if (!this.ranked) return;
    const heap = this.members[slot]!;
    if (this.states.users[slot] === 0) heap.length = 0;
    else while (this.nodes[this.nodeAtRank[heap[0]!]!]!.slot !== slot) popLeast(heap);
    this.orders[slot] = heap[0] === undefined ? lastOrder : -heap[0];
  }

  /** Puts the node into the state in `this.draft`, after bringing its GPUs into order. */
  private enter(node: number): void {
    const entry = this.nodes[node]!;
    this.sortDraft(entry.order);
    const { draft, kinds } = this;
    for (let i = 0; i < draft.gpus; i++) {
      const { memoryMib } = kinds.kinds[draft.kind[i]!]!;
      const free = Math.max(0, draft.freeMilli[i]!);
      draft.gap[i] =
        memoryMib === 0 ? free : Math.min(free, Math.floor((1000 * draft.freeMib[i]!) / memoryMib));
    }
    const slot = this.states.acquire(draft, this.logContent);
    entry.slot = slot;
    this.supply.count(slot, 1);
    if (this.ranked) this.join(slot, entry.rank);
  }

  private join(slot: number, rank: number): void {
    let heap = this.members[slot];
    if (heap === undefined) {
      heap = [];
      this.members[slot] = heap;
    }
    if (heap.length > 2 * this.states.users[slot]! + 16) {
      const live = heap.filter((r) => this.nodes[this.nodeAtRank[r]!]!.slot === slot && r !== rank);
      heap.length = 0;
      heap.push(...new Set(live.sort((a, b) => a - b)));
    }
    pushLeast(heap, rank);
    if (this.orders.length < this.states.slots) this.growOrders();
    if (-rank <= this.orders[slot]!) return;
    this.orders[slot] = -rank;
    if (this.states.users[slot]! > 1) this.log(slot);
  }

  private growOrders(): void {
    this.orders = new Int32Array(this.states.users.length).fill(lastOrder);
    for (const [slot, heap] of this.members.entries()) {
      if (heap?.[0] !== undefined) this.orders[slot] = -heap[0];
    }
  }

  private readonly logContent = (slot: number): void => {
    this.log(slot);
    this.latest[2 * slot + 1] = this.changes - 1;
  };

  private log(slot: number): void {
    if (this.changed.length < 2 * this.states.slots) {
      this.changed = new Int32Array(2 ** Math.ceil(Math.log2(4 * this.states.slots)));
      this.changes += this.changed.length;
    }
    if (this.latest.length < 2 * this.states.slots) {
      const latest = new Float64Array(2 * this.states.users.length);
      latest.set(this.latest);
      this.latest = latest;
    }
    // A slot that is left empty is mostly the next one to be filled: one entry says both.
    const mask = this.changed.length - 1;
    const last = this.changed[(this.changes - 1) & mask];
    if (this.changes > this.stepStart && last === slot) return;
    this.changed[this.changes & mask] = slot;
    this.latest[2 * slot] = this.changes;
    this.changes++;
  }

  /** Insertion sort of the draft's GPUs, carrying `order` along: at most a few are out of place. */
  private sortDraft(order: number[]): void {
    for (let i = 1; i < this.draft.gpus; i++) {
      for (let at = i; at > 0 && this.isBefore(at, at - 1, order); at--) {
        swapGpus(this.draft, at, at - 1);
        const held = order[at]!;
        order[at] = order[at - 1]!;
        order[at - 1] = held;
      }
    }
  }

  /** The canonical order; equal GPUs by their index in the spec. */
  private isBefore(a: number, b: number, order: readonly number[]): boolean {
    const { kind, freeMilli, freeMib, owner } = this.draft;
    if (kind[a] !== kind[b]) return kind[a]! < kind[b]!;
    if (freeMilli[a] !== freeMilli[b]) return freeMilli[a]! < freeMilli[b]!;
    if (freeMib[a] !== freeMib[b]) return freeMib[a]! < freeMib[b]!;
    if (owner[a] !== owner[b]) return owner[a]! < owner[b]!;
    return order[a]! < order[b]!;
  }

  private ensureRanks(): void {
    if (this.ranked) return;
    this.ranked = true;
    const live = this.nodes.flatMap((entry, node) => (entry.slot < 0 ? [] : [node]));
    const id = (node: number): string => this.nodes[node]!.spec.id;
    this.nodeAtRank = live.sort((a, b) => (id(a) < id(b) ? -1 : 1));
    for (const heap of this.members) if (heap !== undefined) heap.length = 0;
    for (const [rank, node] of this.nodeAtRank.entries()) {
      const entry = this.nodes[node]!;
      entry.rank = rank;
      (this.members[entry.slot] ??= []).push(rank);
    }
    this.growOrders();
    // Ranks moved: whoever follows the log must look at every slot again.
    this.stepStart = this.changes;
    for (let slot = 0; slot < this.states.slots; slot++) this.log(slot);
  }
}

/** GPU memory that a shape takes of one GPU beside its slices: all of it when it asks for the whole GPU. */
export function memoryTaken(shape: Shape, gpuMemoryMib: number): number {
  if (shape.mig !== undefined) return 0;
  return shape.gpuMilli >= 1000 ? gpuMemoryMib : shape.gpuMemoryMib;
}

function pushLeast(heap: number[], value: number): void {
  let at = heap.push(value) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (heap[parent]! <= value) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = value;
}

function popLeast(heap: number[]): void {
  const last = heap.pop()!;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= last) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}
