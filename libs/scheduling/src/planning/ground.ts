import type { GpuId, TaskId } from "@fastgpu/domain/ids";
import type { Placement as EnginePlace } from "../placement/cluster.ts";
import type { Draft } from "../placement/draft.ts";
import { placeGang } from "../placement/gang.ts";
import { gpuLeft, GpuRoom, gpuRoomOf } from "../placement/gpu-room.ts";
import type { Shape } from "../placement/shapes.ts";
import type { MemberPlace, PlanTask } from "../plan.ts";
import type { Entry, Fleet, Held, Kept } from "./fleet.ts";
import type { Attempt } from "./crew.ts";
import { heldPartOf } from "./parts.ts";

/** A place in the engine with what it takes. */
export interface Taken {
  readonly shape: Shape;
  readonly place: EnginePlace;
}

/** A GPU that is kept for one task, as far as others do not hold parts of it. */
export interface KeptGpu extends Kept {
  readonly task: TaskId;
  readonly index: number;
  readonly key: string;
}

/** A moment of the trial to go back to. */
interface Mark {
  readonly steps: number;
  /** Changes of fillers noted by then. */
  readonly noted: number;
}

/** CPU, memory and disk of one node. */
interface Host {
  cpuMillis: number;
  memoryMib: number;
  diskMib: number;
}

/**
 * The fleet in the course of one plan: what is taken and given back here is a trial, undone at the end. What is given
 * back (what leases hold that are about to end) is not there yet: `isThere` tells a place that can be leased now from
 * one that has to wait for it.
 */
export class Ground {
  readonly fleet: Fleet;
  private readonly draft: Draft;
  /** Nodes on which something is given back that is still held. */
  private readonly loose = new Set<number>();
  /** What keeps a kept GPU out of sight, by its key, where that has changed; nothing: it is open, or all of it is taken. */
  private readonly fillers = new Map<string, readonly Taken[]>();
  /** What they were before each change, to go back: copies of all of them took most of a plan that preempts a lot. */
  private readonly before: (readonly [string, readonly Taken[] | undefined])[] = [];
  /** GPUs of attempts that end in this plan's draft, kept for their tasks. */
  private readonly keptNow = new Map<TaskId, KeptGpu[]>();
  /** What this plan leases for sure, by node … */
  private readonly leased = new Map<number, Host>();
  /** … and on which parts of GPUs, on nodes that give out parts. */
  private readonly leasedParts = new Map<number, readonly Taken[]>();

  constructor(fleet: Fleet) {
    this.fleet = fleet;
    this.draft = fleet.free.draft();
  }

  /** Takes everything back. */
  undo(): void {
    this.draft.rollback();
  }

  mark(): Mark {
    return { steps: this.draft.checkpoint(), noted: this.before.length };
  }

  rollback({ steps, noted }: Mark): void {
    this.draft.rollback(steps);
    while (this.before.length > noted) {
      const [key, fillers] = this.before.pop()!;
      if (fillers === undefined) this.fillers.delete(key);
      else this.fillers.set(key, fillers);
    }
  }

  private fillWith(key: string, fillers: readonly Taken[]): void {
    this.before.push([key, this.fillers.get(key)]);
    this.fillers.set(key, fillers);
  }

  /**
   * Takes places for all members of a task on GPUs of these models (none: of any), or nothing; a plain task's on these
   * nodes; shares `only` of these GPUs.
   */
  place(
    task: PlanTask,
    models: readonly string[],
    {
      nodes,
      only,
    }: { nodes?: ReadonlySet<number> | undefined; only?: ReadonlySet<GpuId> | undefined } = {},
  ): Taken[] | undefined {
    const shape = this.fleet.shapeOf(task, models);
    if (shape === undefined) return undefined;
    const excluded = [...this.exclude(task), ...(only === undefined ? [] : this.fillBut(only))];
    const places = task.replicas === 1 ? this.one(task, shape, nodes) : this.gang(task, shape);
    for (const each of excluded) this.give(each);
    return places?.map((place) => ({ shape, place }));
  }

  private one(
    task: PlanTask,
    shape: Shape,
    nodes: ReadonlySet<number> | undefined,
  ): EnginePlace[] | undefined {
    const { fleet, draft } = this;
    const { runtime } = task.demand;
    if (nodes !== undefined) {
      const allowed = (node: number): boolean => nodes.has(node) && fleet.runs(node, runtime);
      const place = draft.place(shape, { allowed });
      return place === undefined ? undefined : [place];
    }
    const found = fleet.free.find(shape);
    if (found === undefined) return undefined;
    if (fleet.runs(found.node, runtime)) {
      draft.take(shape, found);
      return [found];
    }
    const place = draft.place(shape, { allowed: (node) => fleet.runs(node, runtime) });
    return place === undefined ? undefined : [place];
  }

  private gang(task: PlanTask, shape: Shape): EnginePlace[] | undefined {
    const { fleet, draft } = this;
    const { replicas, topology, demand } = task;
    const wanted = replicas * shape.gpus * shape.gpuMilli;
    // Of parts, more fit where memory is what is scarce than the sum tells.
    const whole = shape.gpuMilli >= 1000;
    if (whole && wanted > fleet.free.cluster.supply.mostMilli(shape)) return undefined;
    const members = Array.from({ length: replicas }, () => shape);
    const allowed = (node: number): boolean => fleet.runs(node, demand.runtime);
    const everywhere = fleet.running(demand.runtime) === fleet.entries.size;
    return placeGang(fleet.free, draft, {
      members,
      topology,
      ...(everywhere ? {} : { allowed }),
    });
  }

  /** Takes the very GPUs that are kept for a task, where they are whole ones and all that it needs. */
  placeKept(task: PlanTask, models: readonly string[]): Taken[] | undefined {
    const { gpuCount, part, runtime } = task.demand;
    const kept = this.keptFor(task.id);
    if (part !== undefined || kept.length !== gpuCount * task.replicas) return undefined;
    const shape = this.fleet.shapeOf(task, models);
    if (shape === undefined) return undefined;
    const mark = this.mark();
    const taken: Taken[] = [];
    for (const [index, own] of Map.groupBy(kept, (each) => each.index)) {
      const { node } = this.fleet.at(index);
      const gpus = own.map(({ at }) => at).sort((a, b) => a - b);
      const mayTake = node.acceptsWork && this.fleet.runs(index, runtime);
      const usable = gpus.every((at) => {
        const { id, model } = node.gpus[at]!;
        const mayHave = models.length === 0 || models.includes(model);
        return mayHave && !task.excludedGpus.includes(id);
      });
      if (!mayTake || !usable || gpus.length % gpuCount !== 0) break;
      for (let from = 0; from < gpus.length; from += gpuCount) {
        const place = { node: index, gpus: gpus.slice(from, from + gpuCount) };
        if (this.take({ shape, place })) taken.push({ shape, place });
      }
    }
    if (taken.length === task.replicas) return taken;
    this.rollback(mark);
    return undefined;
  }

  /** Takes a place on one of some nodes. */
  placeOn(shape: Shape, allowed: (node: number) => boolean): Taken | undefined {
    const place = this.draft.place(shape, { allowed });
    return place === undefined ? undefined : { shape, place };
  }

  /** Takes what is free of GPUs that a task must not get, for as long as its place is looked for. */
  private exclude(task: PlanTask): Taken[] {
    return task.excludedGpus.flatMap((id) => this.fillGpu(id) ?? []);
  }

  /** Takes whatever is free of a GPU; undefined where nothing is, or the fleet has no such GPU. */
  fillGpu(id: GpuId): Taken | undefined {
    const known = this.fleet.gpus.get(id);
    return known === undefined ? undefined : this.fill(known.index, known.at);
  }

  /** Takes whatever is free of all GPUs that are given out in parts, but of these. */
  private fillBut(gpus: ReadonlySet<GpuId>): Taken[] {
    return [...this.fleet.inOrder].flatMap(({ index, node, shared }) =>
      shared
        ? node.gpus.flatMap(({ id }, at) => (gpus.has(id) ? [] : (this.fill(index, at) ?? [])))
        : [],
    );
  }

  /** Takes whatever is free of a GPU; undefined where nothing is. */
  fill(index: number, at: number): Taken | undefined {
    const { freeMilli, owner, kind } = this.gpuAt(index, at);
    if (freeMilli <= 0) return undefined;
    const { shapes } = this.fleet.free.cluster;
    const tenant = kind.mig === undefined ? shapes.ownerName(owner) : "";
    const taken = {
      shape: this.fleet.filler(freeMilli, tenant),
      place: { node: index, gpus: [at] },
    };
    return this.take(taken) ? taken : undefined;
  }

  /** Takes a given place, or answers false where it is not free. */
  take({ shape, place }: Taken): boolean {
    if (shape.ownerId !== 0 && shape.mig === undefined && !this.mayShare(shape, place))
      return false;
    try {
      this.draft.take(shape, place);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }

  /** Gives back what was taken in this plan. */
  give({ shape, place }: Taken): void {
    this.draft.release(shape, place);
  }

  /** Whether the organisation of a share may join whoever shares these GPUs now. */
  private mayShare(shape: Shape, { node, gpus }: EnginePlace): boolean {
    return gpus.every((at) => {
      const { owner, freeMilli, kind } = this.gpuAt(node, at);
      return owner === shape.ownerId || freeMilli >= kind.capacityMilli || kind.mig !== undefined;
    });
  }

  /** Opens a GPU that is kept for a task; one that is not free yet counts as about to be. */
  open(kept: KeptGpu): void {
    for (const each of this.fillersOf(kept)) this.give(each);
    this.fillWith(kept.key, []);
    if (!kept.idle) this.loose.add(kept.index);
  }

  /** Takes what is free of a GPU that is kept for a task out of sight again; false: nothing is. */
  shut(kept: KeptGpu): boolean {
    const filler = this.fill(kept.index, kept.at);
    if (filler === undefined) return false;
    this.fillWith(kept.key, [...this.fillersOf(kept), filler]);
    return true;
  }

  private fillersOf({ key, index, at, fill }: KeptGpu): readonly Taken[] {
    const known = this.fillers.get(key);
    if (known !== undefined) return known;
    return fill === undefined ? [] : [{ shape: fill, place: { node: index, gpus: [at] } }];
  }

  /** Gives back what a running attempt holds, as if it had ended; what of it is reserved stays out of others' sight. */
  end(attempt: Attempt): void {
    for (const { entry, held } of attempt.members) {
      this.draft.release(held.shape, placeOf(entry, held));
      this.loose.add(entry.index);
    }
    for (const kept of this.reservedOf(attempt)) {
      if (!this.shut(kept)) continue;
      const known = this.keptNow.get(kept.task);
      if (known === undefined) this.keptNow.set(kept.task, [kept]);
      else if (known.every(({ key }) => key !== kept.key)) known.push(kept);
    }
  }

  /** Puts an ended attempt back to where it runs; false, and nothing has changed, where that is taken. */
  resume(attempt: Attempt): boolean {
    const mark = this.mark();
    const reserved = this.reservedOf(attempt);
    for (const kept of reserved) this.open(kept);
    for (const { entry, held } of attempt.members) {
      if (this.take({ shape: held.shape, place: placeOf(entry, held) })) continue;
      this.rollback(mark);
      return false;
    }
    for (const kept of reserved) this.shut(kept);
    return true;
  }

  /** GPUs that only this task may take: each is out of sight until it is opened. */
  keptFor(task: TaskId): KeptGpu[] {
    const kept = (this.fleet.keptFor.get(task) ?? []).map((each): KeptGpu => {
      return { ...each, task, key: `${each.index} ${each.at}` };
    });
    const now = this.keptNow.get(task);
    if (now === undefined) return kept;
    const keys = new Set(kept.map(({ key }) => key));
    return [...kept, ...now.filter(({ key }) => !keys.has(key))];
  }

  /** Takes what is free of a task's kept GPUs out of sight again. */
  shutAll(task: TaskId): void {
    for (const each of this.keptFor(task)) this.shut(each);
  }

  /** GPUs of a running attempt that are reserved for a task. */
  private reservedOf({ members }: Attempt): KeptGpu[] {
    return members.flatMap(({ entry, held }) =>
      held.gpus.flatMap((at): KeptGpu[] => {
        const { reservedFor: task } = entry.node.gpus[at]!;
        if (task === undefined) return [];
        const { index } = entry;
        const known = entry.kept.get(task)?.find((each) => each.at === at);
        return [{ at, idle: false, fill: undefined, ...known, index, key: `${index} ${at}`, task }];
      }),
    );
  }

  /** Positions of GPUs on a node that are free on this ground. */
  freeGpus(index: number): number[] {
    const { nodes, states } = this.fleet.free.cluster;
    const { slot, order } = nodes[index]!;
    const base = states.base[slot]!;
    return order.filter((_, at) => states.freeMilli[base + at]! >= 1000);
  }

  private readonly gpuAt = (index: number, at: number) =>
    gpuLeft(this.fleet.free.cluster, index, at);

  /** The GPUs of a node as they are on this ground, to try who has to go. */
  gpuRoom(index: number): GpuRoom {
    return gpuRoomOf(this.fleet.free.cluster, index);
  }

  /** How many of them. */
  freeCount(index: number): number {
    const { nodes, states } = this.fleet.free.cluster;
    const { slot } = nodes[index]!;
    const base = states.base[slot]!;
    const end = base + states.gpus[slot]!;
    let count = 0;
    for (let at = base; at < end; at++) if (states.freeMilli[at]! >= 1000) count++;
    return count;
  }

  /** What else is free on a node. */
  freeHost(index: number): Host {
    const host = { cpuMillis: 0, memoryMib: 0, diskMib: 0 };
    this.readHost(index, host);
    return host;
  }

  /** Writes what else is free on a node. */
  readHost(index: number, host: Host): void {
    const { nodes, states } = this.fleet.free.cluster;
    const { slot } = nodes[index]!;
    host.cpuMillis = states.cpuMillis[slot]!;
    host.memoryMib = states.memoryMib[slot]!;
    host.diskMib = states.diskMib[slot]!;
  }

  /** Whether all of these places are free in truth, and not only once something has ended. */
  isThere(taken: readonly Taken[], task: TaskId): boolean {
    const needs = new Map<number, Host>();
    const rooms = new Map<number, GpuRoom>();
    for (const { shape, place } of taken) {
      if (!this.loose.has(place.node)) continue;
      const entry = this.fleet.at(place.node);
      const free = place.gpus.every((at) => {
        const gpu = entry.node.gpus[at]!;
        return gpu.free && (gpu.reservedFor === undefined || gpu.reservedFor === task);
      });
      if (!free) return false;
      if (entry.shared && place.gpus.length > 0) {
        let room = rooms.get(place.node);
        if (room === undefined) rooms.set(place.node, (room = this.trueRoom(entry)));
        if (!room.take({ shape, ...place })) return false;
      }
      addTo(needs, place.node, shape);
    }
    for (const [index, need] of needs) {
      const { node } = this.fleet.at(index);
      const used = this.leased.get(index) ?? { cpuMillis: 0, memoryMib: 0, diskMib: 0 };
      for (const resource of ["cpuMillis", "memoryMib", "diskMib"] as const) {
        const held = node.running.reduce((sum, lease) => sum + lease[resource], 0);
        if (held + used[resource] + need[resource] > node[resource]) return false;
      }
    }
    return true;
  }

  /** The GPUs of a node with all that runs there and what this plan leases for sure. */
  private trueRoom({ index, node, held }: Entry): GpuRoom {
    const room = new GpuRoom(
      node.gpus.map(({ memoryMib }, at) => {
        const { kind } = this.gpuAt(index, at);
        return { kind, freeMilli: kind.capacityMilli, freeMib: memoryMib, owner: 0 };
      }),
    );
    for (const each of held ?? []) room.take(each);
    for (const { shape, place } of this.leasedParts.get(index) ?? [])
      room.take({ shape, ...place });
    return room;
  }

  /** Notes places that this plan leases (`sign` 1), or does not after all (-1). */
  note(taken: readonly Taken[], sign: 1 | -1): void {
    for (const each of taken) {
      const { node } = each.place;
      addTo(this.leased, node, each.shape, sign);
      if (!this.fleet.at(node).shared) continue;
      const on = this.leasedParts.get(node) ?? [];
      this.leasedParts.set(node, sign > 0 ? [...on, each] : on.filter((other) => other !== each));
    }
  }

  /** The places in the terms of the plan. */
  toMembers(taken: readonly Taken[]): MemberPlace[] {
    return taken.map(({ shape, place }) => {
      const { node } = this.fleet.at(place.node);
      const on = place.gpus.map((at) => node.gpus[at]!);
      const part = heldPartOf(shape, on, place.starts);
      const gpus = on.map(({ id }) => id);
      return part === undefined ? { node: node.id, gpus } : { node: node.id, gpus, part };
    });
  }
}

function placeOf({ index }: Entry, { gpus, starts }: Held): EnginePlace {
  return starts === undefined ? { node: index, gpus } : { node: index, gpus, starts };
}

function addTo(sums: Map<number, Host>, index: number, shape: Host, sign: 1 | -1 = 1): void {
  const sum = sums.get(index) ?? { cpuMillis: 0, memoryMib: 0, diskMib: 0 };
  sum.cpuMillis += sign * shape.cpuMillis;
  sum.memoryMib += sign * shape.memoryMib;
  sum.diskMib += sign * shape.diskMib;
  sums.set(index, sum);
}
