import type { TaskId } from "@fastgpu/domain/ids";
import type { Placement as EnginePlace } from "../placement/cluster.ts";
import type { Draft } from "../placement/draft.ts";
import { placeGang } from "../placement/gang.ts";
import type { Shape } from "../placement/shapes.ts";
import type { MemberPlace, PlanTask } from "../plan.ts";
import type { Fleet } from "./fleet.ts";
import type { Attempt } from "./line.ts";

/** A place in the engine with what it takes. */
export interface Taken {
  readonly shape: Shape;
  readonly place: EnginePlace;
}

/** A GPU that is kept for one task. */
export interface KeptGpu extends Taken {
  /** Free now; otherwise about to be. */
  readonly idle: boolean;
  readonly key: string;
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
  /** Kept GPUs that are open now, or that their task has taken. */
  private readonly opened = new Set<string>();
  /** GPUs of attempts that end in this plan's draft, kept for their tasks. */
  private readonly keptNow = new Map<TaskId, KeptGpu[]>();
  /** What this plan leases for sure, by node. */
  private readonly leased = new Map<number, Host>();

  constructor(fleet: Fleet) {
    this.fleet = fleet;
    this.draft = fleet.free.draft();
  }

  /** Takes everything back. */
  undo(): void {
    this.draft.rollback();
  }

  mark(): number {
    return this.draft.checkpoint();
  }

  rollback(mark: number): void {
    this.draft.rollback(mark);
  }

  /** Takes places for all members of a task on GPUs of these models (none: of any), or nothing; a plain task's on these nodes. */
  place(
    task: PlanTask,
    models: readonly string[],
    nodes?: ReadonlySet<number>,
  ): Taken[] | undefined {
    const shape = this.fleet.shapeOf(task.demand, models);
    if (shape === undefined) return undefined;
    const excluded = this.exclude(task);
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
    if (wanted > fleet.free.cluster.supply.usableMilli(shape)) return undefined;
    const members = Array.from({ length: replicas }, () => shape);
    const allowed = (node: number): boolean => fleet.runs(node, demand.runtime);
    const everywhere = [...fleet.entries.values()].every(({ index }) => allowed(index));
    return placeGang(fleet.free, draft, {
      members,
      topology,
      ...(everywhere ? {} : { allowed }),
    });
  }

  /** Takes a place on one of some nodes. */
  placeOn(shape: Shape, allowed: (node: number) => boolean): Taken | undefined {
    const place = this.draft.place(shape, { allowed });
    return place === undefined ? undefined : { shape, place };
  }

  /** Takes free GPUs that a task must not get, for as long as its place is looked for. */
  private exclude(task: PlanTask): Taken[] {
    return task.excludedGpus.flatMap((id) => {
      const known = this.fleet.gpus.get(id);
      if (known === undefined) return [];
      const taken = { shape: this.fleet.oneGpu, place: { node: known.index, gpus: [known.at] } };
      return this.take(taken) ? [taken] : [];
    });
  }

  /** Takes a given place, or answers false where it is not free. */
  take({ shape, place }: Taken): boolean {
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

  /** Opens a GPU that is kept for a task; one that is not free yet counts as about to be. */
  open(kept: KeptGpu): void {
    this.give(kept);
    this.opened.add(kept.key);
    if (!kept.idle) this.loose.add(kept.place.node);
  }

  /** Takes an open GPU out of sight again, unless it was taken. */
  shut(kept: KeptGpu): void {
    if (this.take(kept)) this.opened.delete(kept.key);
  }

  /** A rollback has taken these out of sight again. */
  wereShut(kept: readonly KeptGpu[]): void {
    for (const { key } of kept) this.opened.delete(key);
  }

  /** Gives back what a running attempt holds, as if it had ended. */
  end(attempt: Attempt): void {
    for (const { entry, held } of attempt.members) {
      this.draft.release(held.shape, { node: entry.index, gpus: held.gpus });
      this.loose.add(entry.index);
    }
  }

  /** Puts an ended attempt back to where it runs; false, and nothing has changed, where that is taken. */
  resume(attempt: Attempt): boolean {
    const mark = this.mark();
    for (const { entry, held } of attempt.members) {
      const place = { node: entry.index, gpus: held.gpus };
      if (this.take({ shape: held.shape, place })) continue;
      this.rollback(mark);
      return false;
    }
    return true;
  }

  /** GPUs that only this task may take and that nothing holds: each is out of sight until it is given. */
  keptFor(task: TaskId): KeptGpu[] {
    return this.allKept(task).filter(({ key }) => !this.opened.has(key));
  }

  /** Takes what is open of a task's kept GPUs, and free, out of sight again. */
  shutAll(task: TaskId): void {
    for (const each of this.allKept(task)) if (this.opened.has(each.key)) this.shut(each);
  }

  private allKept(task: TaskId): KeptGpu[] {
    const { oneGpu: shape, keptFor } = this.fleet;
    const kept = (keptFor.get(task) ?? []).map(({ index, at, idle }) => {
      return { shape, place: { node: index, gpus: [at] }, idle, key: `${index} ${at}` };
    });
    return [...kept, ...(this.keptNow.get(task) ?? [])];
  }

  /** GPUs of a running attempt that are reserved for another task than this one. */
  reservedOf({ members }: Attempt, task: TaskId): (KeptGpu & { readonly task: TaskId })[] {
    return members.flatMap(({ entry, held }) =>
      held.gpus.flatMap((at) => {
        const { reservedFor } = entry.node.gpus[at]!;
        if (reservedFor === undefined || reservedFor === task) return [];
        const { index } = entry;
        const place = { node: index, gpus: [at] };
        const key = `${index} ${at}`;
        return [{ shape: this.fleet.oneGpu, place, idle: false, key, task: reservedFor }];
      }),
    );
  }

  /** Takes a GPU that an attempt gives up out of sight of all but one task. */
  keep(task: TaskId, gpu: KeptGpu): void {
    if (!this.take(gpu)) return;
    const known = this.keptNow.get(task);
    if (known === undefined) this.keptNow.set(task, [gpu]);
    else known.push(gpu);
  }

  /** Positions of GPUs on a node that are free on this ground. */
  freeGpus(index: number): number[] {
    const { nodes, states } = this.fleet.free.cluster;
    const { slot, order } = nodes[index]!;
    const base = states.base[slot]!;
    return order.filter((_, at) => states.freeMilli[base + at]! >= 1000);
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
    for (const { shape, place } of taken) {
      if (!this.loose.has(place.node)) continue;
      const { node } = this.fleet.at(place.node);
      const free = place.gpus.every((at) => {
        const gpu = node.gpus[at]!;
        return gpu.free && (gpu.reservedFor === undefined || gpu.reservedFor === task);
      });
      if (!free) return false;
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

  /** Notes places that this plan leases (`sign` 1), or does not after all (-1). */
  note(taken: readonly Taken[], sign: 1 | -1): void {
    for (const { shape, place } of taken) addTo(this.leased, place.node, shape, sign);
  }

  /** The places in the terms of the plan. */
  toMembers(taken: readonly Taken[]): MemberPlace[] {
    return taken.map(({ place }) => {
      const { node } = this.fleet.at(place.node);
      return { node: node.id, gpus: place.gpus.map((at) => node.gpus[at]!.id) };
    });
  }
}

function addTo(sums: Map<number, Host>, index: number, shape: Host, sign: 1 | -1 = 1): void {
  const sum = sums.get(index) ?? { cpuMillis: 0, memoryMib: 0, diskMib: 0 };
  sum.cpuMillis += sign * shape.cpuMillis;
  sum.memoryMib += sign * shape.memoryMib;
  sum.diskMib += sign * shape.diskMib;
  sums.set(index, sum);
}
