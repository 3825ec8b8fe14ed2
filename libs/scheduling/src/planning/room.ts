import type { GpuId, NodeId } from "@fastgpu/domain/ids";
import type { Slot } from "../order/jobs.ts";
import type { Candidate, Room } from "../order/room.ts";
import type { Budget } from "./budget.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { confined } from "./confined.ts";
import { findCover, type Cover, type Holding } from "./cover.ts";
import type { Expectations } from "./expectations.ts";
import type { Ground, Taken } from "./ground.ts";
import { Heads, type Ender, type ReservedStart } from "./heads.ts";
import { Moves } from "./moves.ts";
import { Stoppable } from "./stoppable.ts";
import type { Attempt } from "./crew.ts";
import { endOf, type Job, type Line } from "./line.ts";

/** Where a job goes in this plan. */
export interface Placed {
  readonly job: Job;
  readonly taken: readonly Taken[];
  /** False where something that is about to end still holds it: it is kept for the job, and leased in a later plan. */
  readonly there: boolean;
}

/** What is looked for: a place for a job on one of these lists of models, where given on certain nodes. */
interface Wish {
  readonly job: Job;
  readonly preferences: readonly (readonly string[])[];
  readonly nodes?: ReadonlySet<number>;
  /** On the very GPUs that are kept for it, and nowhere else. */
  readonly kept?: boolean;
}

/** Lists of models, best first. */
type Lists = readonly (readonly string[])[];

const isSame = (a: Lists, b: Lists): boolean =>
  a.length === b.length &&
  a.every((list, at) => {
    const other = b[at]!;
    return (
      list === other || (list.length === other.length && list.every((each, n) => each === other[n]))
    );
  });

/** Searches for victims, and for moves, in one plan, at most: each looks at every node … */
const maxSearches = 64;
/** … and together at no more nodes than this, but for the first few. */
const maxLooks = 50_000;
const leastSearches = 4;
/** Searches for moves for one job, at most: each leaves out one who found no place. */
const maxMoveTries = 4;

/** The pool of the order, over the placement engine: whole gangs, reserved GPUs, budgets, heads and what is about to be free. */
export class PlanRoom implements Room {
  readonly capacityMilli: number;
  readonly placed = new Map<Slot, Placed>();
  readonly heads: Heads;
  readonly moves: Moves;
  private readonly ground: Ground;
  private readonly budget: Budget;
  private readonly line: Line;
  private readonly expectations: Expectations;
  private readonly now: number;
  private readonly compaction: SchedulingPolicy["compaction"];
  /** Attempts that were told to stop: what they hold counts as about to be free. */
  private readonly stopping: readonly Attempt[];
  /** Attempts that end in this plan's draft. */
  private readonly ended = new Set<Attempt>();
  /** Kinds that found no room since something was last given back, with the models that they might use. */
  private full = new Map<number, Lists[]>();
  /** Kinds for which nobody could move, of those. */
  private readonly packed = new Set<number>();
  /** What runs by node; worked out when first needed. */
  private running: Map<number, Holding<Ender & { readonly attempt: Attempt }>[]> | undefined;
  /** Who might be stopped by node; worked out when first needed. */
  private stoppable: Stoppable | undefined;
  /** What starts in this plan by node. */
  private readonly starting = new Map<number, Map<string, Holding<Ender>>>();
  private searches = 0;
  private moveSearches = 0;

  constructor(of: {
    ground: Ground;
    budget: Budget;
    line: Line;
    expectations: Expectations;
    policy: SchedulingPolicy;
    now: number;
  }) {
    this.ground = of.ground;
    this.budget = of.budget;
    this.line = of.line;
    this.expectations = of.expectations;
    this.now = of.now;
    this.compaction = of.policy.compaction;
    this.capacityMilli = of.line.unit.capacityMilli;
    this.stopping = of.line.attempts
      .filter(({ lease, known }) => lease.stopping && known)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    this.heads = new Heads(of.ground, {
      now: of.now,
      backfill: of.policy.backfill,
      holdings: (index) => this.endersOn(index),
    });
    this.moves = new Moves({
      ground: of.ground,
      heads: this.heads,
      now: of.now,
      mover: {
        ended: this.ended,
        attempt: (slot) => this.line.runners.get(slot)!,
        lift: (slot) => this.lift(slot),
        putBack: (slot) => this.putBack(slot),
        place: (slot) => this.place(slot),
        release: (slot) => this.release(slot),
        offLimits: (slot, endMs) => this.budget.offLimitsOf(this.line.runners.get(slot)!, endMs),
        note: (slot, { taken, endMs }, starts) => {
          const held = { endMs, expectedMs: endMs, sinceMs: this.now };
          this.noteHeld(slot, held, { taken: [taken], starts });
          this.heads.changed([taken.place.node]);
        },
      },
    });
  }

  freeMilli(): number {
    return Number.POSITIVE_INFINITY;
  }

  place(slot: Slot): boolean {
    const job = confined(this.line.jobs.get(slot)!, this.budget);
    const preferences = this.budget.allowed(job.task, job.endMs);
    if (preferences.length === 0) return false;
    const nodes = this.ground.fleet.nodesFor.get(job.task.id);
    if (nodes !== undefined) {
      this.heads.hide(job);
      return this.placeKept(slot, { job, preferences, nodes });
    }
    const full = this.full.get(job.kind);
    if (full?.some((lists) => isSame(lists, preferences))) return false;
    this.heads.hide(job);
    if (this.tryPlace(slot, { job, preferences })) return true;
    if (full === undefined) this.full.set(job.kind, [preferences]);
    else full.push(preferences);
    return false;
  }

  /** Reserves the start of a job that found no room. */
  reserveStart(slot: Slot): ReservedStart | undefined {
    const { budget } = this;
    const job = this.line.jobs.get(slot)!;
    const { task } = job;
    return this.heads.reserve(confined(job, budget), budget.allowed(task, job.endMs), (endMs) =>
      budget.offLimits(task, endMs, "without loans"),
    );
  }

  /**
   * Places a job that GPUs are kept for: on those, so that several whose places were found together do not take one
   * another's. What is free now goes before what is not yet, for a plain one only on its own nodes: it stays there.
   */
  private placeKept(slot: Slot, wish: Wish): boolean {
    const { job, preferences } = wish;
    const kept = { job, preferences, kept: true };
    const anywhere = { job, preferences };
    const near = job.task.replicas === 1 ? wish : anywhere;
    if (this.placeNow(slot, kept) || this.placeNow(slot, near)) return true;
    if (this.placeSoon(slot, kept) || this.placeSoon(slot, near)) return true;
    return near !== anywhere && this.tryPlace(slot, anywhere);
  }

  private tryPlace(slot: Slot, wish: Wish): boolean {
    return this.placeNow(slot, wish) || this.placeSoon(slot, wish);
  }

  private placeNow(slot: Slot, wish: Wish): boolean {
    const { job } = wish;
    const idle = this.ground.keptFor(job.task.id).filter((each) => each.idle);
    const mark = this.ground.mark();
    for (const each of idle) this.ground.open(each);
    const taken = this.tryAll(wish);
    if (taken !== undefined) {
      for (const each of idle) this.ground.shut(each);
      return this.accept(slot, taken);
    }
    this.ground.rollback(mark);
    return false;
  }

  /** Places a job on what is about to be free: it starts in a later plan, and nobody is stopped for it meanwhile. */
  private placeSoon(slot: Slot, wish: Wish): boolean {
    const { ground } = this;
    const { job } = wish;
    const { id } = job.task;
    const ending = this.stopping.filter((attempt) => !this.ended.has(attempt));
    if (ending.length === 0 && ground.keptFor(id).length === 0) return false;
    const mark = ground.mark();
    // What is reserved for others stays out of sight.
    for (const attempt of ending) ground.end(attempt);
    const kept = ground.keptFor(id);
    for (const each of kept) ground.open(each);
    const taken = this.tryAll(wish);
    if (taken === undefined) {
      ground.rollback(mark);
      return false;
    }
    for (const attempt of ending) if (!ground.resume(attempt)) this.ended.add(attempt);
    for (const each of kept) ground.shut(each);
    return this.accept(slot, taken);
  }

  private tryAll({ job, preferences, nodes, kept }: Wish): Taken[] | undefined {
    const { ground } = this;
    for (const models of preferences) {
      const only = this.budget.sharesGoTo(job.task, { models, endMs: job.endMs });
      const taken = kept
        ? ground.placeKept(job.task, models)
        : ground.place(job.task, models, { nodes, only });
      if (taken !== undefined) return taken;
    }
    return undefined;
  }

  private accept(slot: Slot, taken: readonly Taken[]): boolean {
    const job = this.line.jobs.get(slot)!;
    const change = this.changeOf(job, taken);
    const there = this.ground.isThere(taken, job.task.id) && this.budget.mayLease(change);
    if (there) {
      this.ground.note(taken, 1);
      this.budget.lease(change, 1);
    }
    this.placed.set(slot, { job, taken, there });
    this.noteStart(slot, job, taken, true);
    this.budget.change(change, 1);
    this.heads.changed(taken.map(({ place }) => place.node));
    return true;
  }

  private changeOf({ task, endMs }: Job, taken: readonly Taken[]) {
    const counts = new Map<string, number>();
    for (const { shape, place } of taken) {
      const { node } = this.ground.fleet.at(place.node);
      for (const at of place.gpus) {
        const { model } = node.gpus[at]!;
        counts.set(model, (counts.get(model) ?? 0) + shape.gpuMilli);
      }
    }
    const shares =
      task.demand.part?.kind !== "share"
        ? undefined
        : taken.flatMap(({ shape, place }) => {
            const { gpus } = this.ground.fleet.at(place.node).node;
            return place.gpus.map((at) => {
              const { id: gpu, model } = gpus[at]!;
              return { gpu, model, milli: shape.gpuMilli };
            });
          });
    if (!this.budget.keepsPlaces) return this.budget.takenBy(task, { counts, endMs, shares });
    const gpus = taken.flatMap(({ shape, place }) => {
      const { node } = this.ground.fleet.at(place.node);
      return place.gpus.map((at) => ({ id: node.gpus[at]!.id, milli: shape.gpuMilli }));
    });
    return this.budget.takenBy(task, { counts, endMs, shares, gpus });
  }

  release(slot: Slot): void {
    this.forgetFull();
    const placed = this.placed.get(slot);
    if (placed !== undefined) {
      const { job, taken, there } = placed;
      for (const each of taken) this.ground.give(each);
      this.ground.shutAll(job.task.id);
      const change = this.changeOf(job, taken);
      if (there) {
        this.ground.note(taken, -1);
        this.budget.lease(change, -1);
      }
      this.placed.delete(slot);
      this.noteStart(slot, job, taken, false);
      this.budget.change(change, -1);
      this.heads.changed(taken.map(({ place }) => place.node));
      return;
    }
    this.lift(slot);
    this.budget.change(this.budget.heldBy(this.line.runners.get(slot)!), -1);
  }

  private lift(slot: Slot): void {
    this.forgetFull();
    const attempt = this.line.runners.get(slot)!;
    this.ground.end(attempt);
    this.ended.add(attempt);
    this.heads.changed(attempt.members.map(({ entry }) => entry.index));
  }

  restore(slot: Slot): boolean {
    if (!this.putBack(slot)) return false;
    this.budget.change(this.budget.heldBy(this.line.runners.get(slot)!), 1);
    return true;
  }

  private putBack(slot: Slot): boolean {
    const attempt = this.line.runners.get(slot)!;
    this.heads.clear();
    if (!this.ground.resume(attempt)) return false;
    this.ended.delete(attempt);
    return true;
  }

  private forgetFull(): void {
    this.full.clear();
    this.packed.clear();
  }

  compact(slot: Slot, movable: () => readonly Candidate[]): readonly Slot[] | undefined {
    const job = confined(this.line.jobs.get(slot)!, this.budget);
    const { enabled, maxLossMs } = this.compaction;
    if (!enabled || this.packed.has(job.kind)) return undefined;
    if (this.moveSearches >= this.searchesAllowed) return undefined;
    if (job.gpuMilli === 0 || job.task.demand.part !== undefined) return undefined;
    const { fleet } = this.ground;
    const { supply } = fleet.free.cluster;
    if (supply.idleMilli() < job.gpuMilli || fleet.nodesFor.has(job.task.id)) return undefined;
    const preferences = this.budget.allowed(job.task, job.endMs).filter((models) => {
      const shape = fleet.shapeOf(job.task, models);
      return shape !== undefined && supply.idleMilli(shape) >= job.gpuMilli;
    });
    if (preferences.length === 0) return undefined;
    const all = movable();
    if (all.length === 0) return undefined;
    this.heads.hide(job);
    let candidates = this.moves.movable(all);
    const full = new Map(this.full);
    for (let tries = maxMoveTries; tries > 0 && candidates.length > 0; tries--) {
      this.moveSearches++;
      const cover = this.cheapest(job, preferences, candidates);
      if (cover === undefined || cover.cost > (maxLossMs * job.gpuMilli) / 1000) break;
      const tried = this.moves.tryFor(
        slot,
        [...cover.holders].map((holder) => holder.slot),
      );
      if (tried === undefined) break;
      if ("moved" in tried) return tried.moved;
      candidates = candidates.filter((candidate) => candidate.slot !== tried.stuck);
    }
    this.full = full;
    this.packed.add(job.kind);
    return undefined;
  }

  private get searchesAllowed(): number {
    const looks = maxLooks / Math.max(1, this.ground.fleet.entries.size);
    return Math.max(leastSearches, Math.min(maxSearches, looks));
  }

  seeksVictims(slot: Slot): boolean {
    if (this.searches >= this.searchesAllowed) return false;
    const job = this.line.jobs.get(slot)!;
    // Only GPUs can be reserved for whom they are freed.
    return job.gpuMilli > 0 && this.preferencesOf(job).length > 0;
  }

  victims(slot: Slot, candidates: readonly Candidate[]): readonly Slot[] | undefined {
    const job = confined(this.line.jobs.get(slot)!, this.budget);
    const preferences = this.preferencesOf(job);
    this.searches++;
    this.heads.hide(job);
    const best = this.cheapest(job, preferences, candidates);
    return best === undefined ? undefined : [...best.holders].map((holder) => holder.slot);
  }

  /** Who loses least of those who would have to go for a job, on one of these lists of models. */
  private cheapest(
    job: Job,
    preferences: Lists,
    candidates: readonly Candidate[],
  ): Cover<Candidate> | undefined {
    const { line, now } = this;
    const nodes = this.ground.fleet.numbers;
    const stoppable = (this.stoppable ??= new Stoppable(line, { nodes, now }));
    stoppable.choose(candidates);
    let best: Cover<Candidate> | undefined;
    for (const models of preferences) {
      const found = findCover(this.ground, {
        task: job.task,
        models,
        holdings: (index) => stoppable.chosenOn(index),
        cost: ({ lossGpuMs }) => lossGpuMs,
        // Who has had the most service; slots are in the order of attempts' ids.
        before: (a, b) => b.scoreMd - a.scoreMd || a.slot - b.slot,
        total: "sum",
        only: this.budget.dueOn(job.task, models),
        avoid: (index) => this.heads.isOn(index, job),
        bounds: stoppable,
      });
      if (found !== undefined && (best === undefined || found.cost < best.cost)) best = found;
    }
    return best;
  }

  /** The models for which others may be stopped: those due to it or within a guarantee, where it rests on that. */
  private preferencesOf({ task, endMs }: Job): readonly (readonly string[])[] {
    const allowed = this.budget.allowed(task, endMs);
    const due = this.budget.dueModels(task);
    const guaranteed = due.length > 0 ? due : this.budget.guaranteedModels(task);
    if (guaranteed.length === 0) return allowed;
    return allowed.flatMap((models) => {
      const left = guaranteed.filter((model) => models.length === 0 || models.includes(model));
      return left.length === 0 ? [] : [left];
    });
  }

  /** Victims' GPUs that a job's place takes. */
  shared(attempt: Attempt, slot: Slot): GpuId[] {
    const own = new Set<GpuId>(
      this.ground.toMembers(this.placed.get(slot)?.taken ?? []).flatMap(({ gpus }) => gpus),
    );
    return attempt.members.flatMap(({ held }) => held.lease.gpus.filter((id) => own.has(id)));
  }

  /** Whole GPUs that a job's place takes beside these, by node. */
  beside(slot: Slot, freed: readonly GpuId[]): { node: NodeId; gpus: readonly GpuId[] }[] {
    const placed = this.placed.get(slot);
    if (placed === undefined || placed.job.task.demand.part !== undefined) return [];
    const known = new Set(freed);
    const byNode = new Map<NodeId, GpuId[]>();
    for (const { node, gpus } of this.ground.toMembers(placed.taken)) {
      const left = gpus.filter((id) => !known.has(id));
      if (left.length > 0) byNode.set(node, [...(byNode.get(node) ?? []), ...left]);
    }
    return [...byNode].map(([node, gpus]) => ({ node, gpus }));
  }

  /** What holds something on a node and will end: what runs, and what starts in this plan. */
  private endersOn(index: number): readonly Holding<Ender>[] {
    this.running ??= this.byNode();
    const on = (this.running.get(index) ?? []).filter(
      ({ holder }) => !this.ended.has(holder.attempt),
    );
    const starting = this.starting.get(index);
    return starting === undefined ? on : [...on, ...starting.values()];
  }

  private byNode(): Map<number, Holding<Ender & { readonly attempt: Attempt }>[]> {
    const all = new Map<number, Holding<Ender & { readonly attempt: Attempt }>[]>();
    for (const attempt of this.line.attempts) {
      const { heldSinceMs: sinceMs } = attempt.lease;
      const holder = this.enderOf(attempt, sinceMs);
      for (const { entry, held } of attempt.members)
        pushTo(all, entry.index, { holder, entry, held });
    }
    return all;
  }

  private enderOf(attempt: Attempt, sinceMs: number): Ender & { readonly attempt: Attempt } {
    const { expectations, now } = this;
    const endMs = endOf(attempt, now);
    let known: number | undefined;
    return {
      attempt,
      endMs,
      sinceMs,
      // Asked for only where nothing is promised.
      get expectedMs() {
        const { lease, gpuMilli } = attempt;
        const gpus = gpuMilli / 1000;
        return (known ??= Math.min(endMs, expectations.end(lease, { gpus, now })));
      },
    };
  }

  /** Notes what a job that starts in this plan holds by node, or forgets it. */
  private noteStart(slot: Slot, job: Job, taken: readonly Taken[], starts: boolean): void {
    const holder = { endMs: job.endMs, expectedMs: job.expectedEndMs, sinceMs: this.now };
    this.noteHeld(slot, holder, { taken, starts });
  }

  private noteHeld(
    slot: Slot,
    holder: Ender,
    { taken, starts }: { taken: readonly Taken[]; starts: boolean },
  ): void {
    for (const [member, { shape, place }] of taken.entries()) {
      let on = this.starting.get(place.node);
      if (on === undefined) this.starting.set(place.node, (on = new Map()));
      const entry = this.ground.fleet.at(place.node);
      const key = `${slot} ${member}`;
      if (starts) on.set(key, { holder, entry, held: { shape, ...place } });
      else on.delete(key);
    }
  }
}

function pushTo<V>(map: Map<number, V[]>, key: number, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
