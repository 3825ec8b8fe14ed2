import type { GpuId } from "@fastgpu/domain/ids";
import { emptyRequest } from "../placement/shapes.ts";
import type { PlanTask } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { findCover, type Holding } from "./cover.ts";
import type { Ground, Taken } from "./ground.ts";
import type { Job } from "./line.ts";

/** Whatever holds something and will end. */
export interface Ender {
  /** Latest end; Infinity: not known. */
  readonly endMs: number;
  /** When it is expected to have ended, at most `endMs`; Infinity: not known. */
  readonly expectedMs: number;
  /** Since when it runs, to guess by where its end is not known. */
  readonly sinceMs: number;
}

/** What a head's members take on one node once it starts. */
interface Stand {
  readonly index: number;
  readonly gpus: readonly number[];
  readonly members: number;
}

/** By which ends a start is reckoned: those that nobody can outlast, or those that are expected. */
type Basis = "latest" | "expected";

/** A task at the head of the line with the start that is reserved for it. */
interface Head {
  readonly task: PlanTask;
  readonly models: readonly string[];
  readonly basis: Basis;
  readonly startMs: number;
  readonly stands: readonly Stand[];
  /** What stands for it in the draft. */
  readonly ghosts: Taken[];
  hidden: boolean;
  /** Something has changed on its nodes since: its ghosts have to be made anew. */
  stale: boolean;
}

/** When a job ends if it starts now. */
type Ends = Pick<Job, "endMs" | "likelyEndMs">;

/** The start that is reserved for a task at the head of the line. */
export interface ReservedStart {
  readonly atMs: number;
  /** Whether it starts by then for sure, whatever comes after it; otherwise that is expected. */
  readonly promised: boolean;
}

/** Where nothing is known of an end, a task is taken to run as long again as it has, and so much more. */
const leastGuessMs = 600_000;

/**
 * Backfill: the first task that finds no room in a pool of GPUs has its start reserved, at the earliest time at which
 * enough of what runs has ended, on certain GPUs of certain nodes. Whatever might outlast that time sees those GPUs
 * (and the CPU, memory and disk that the head needs there) as taken; what ends before it may use them (EASY: Lifka,
 * "The ANL/IBM SP scheduling system", JSSPP '95; here for a fleet of unlike nodes). One head for each pool: tasks that
 * may use no common model do not wait for each other.
 *
 * Limits of run time are mostly far longer than the runs, so that by latest ends alone a start is far ahead and nothing
 * is short enough to go before it. So a start is promised, and by latest ends, only where it is near or the task has
 * queued for long. Till then the place and the time are those of the expected ends, and a job goes before if nine in
 * ten of its like would be done by then. Who overruns is expected to end later from then on, and so is the start.
 */
export class Heads {
  private readonly heads: Head[] = [];
  /** By node: no two heads are to start on one. */
  private readonly headOn = new Map<number, Head>();
  /** Who found no room so far, with the models it may use: it goes before whatever comes later. */
  private readonly blocked: { readonly job: Job; readonly models: readonly string[] }[] = [];
  private readonly ground: Ground;
  private readonly holdingsOn: (index: number) => readonly Holding<Ender>[];
  private readonly now: number;
  private readonly backfill: SchedulingPolicy["backfill"];

  constructor(
    ground: Ground,
    of: {
      now: number;
      backfill: SchedulingPolicy["backfill"];
      holdings: (index: number) => readonly Holding<Ender>[];
    },
  ) {
    this.ground = ground;
    this.backfill = of.backfill;
    this.now = of.now;
    this.holdingsOn = of.holdings;
  }

  /**
   * Reserves the start of a job that found no room, on one of these lists of models. It is promised where it is near
   * (or the job has queued for long) and all ends that it rests on are known. Undefined where nothing can be said:
   * another is at the head, or may want those nodes first. `offLimits` tells the GPUs that it must not have until an end.
   */
  reserve(
    job: Job,
    preferences: readonly (readonly string[])[],
    offLimits: (endMs: number) => readonly GpuId[] = () => [],
  ): ReservedStart | undefined {
    if (preferences.length === 0) return undefined;
    const models = preferences.some((list) => list.length === 0) ? [] : preferences.flat();
    const before = this.blocked.length;
    this.blocked.push({ job, models });
    if (this.heads.some((head) => inOnePool(head, job, models))) return undefined;
    this.clear();
    const latest = this.earliest(job, { preferences, models, basis: "latest" });
    if (latest === undefined) return undefined;
    const binding = this.isBinding(job.task, latest);
    // Nodes are chosen greedily: with other ends they may find no place.
    const best =
      (binding ? undefined : this.earliest(job, { preferences, models, basis: "expected" })) ??
      latest;
    this.heads.push(best.head);
    const { stands, startMs } = best.head;
    for (const { index } of stands) this.headOn.set(index, best.head);
    const earlier = this.blocked.slice(0, before);
    const contested = earlier.some((other) =>
      stands.some(({ index }) => this.mayUse(other, index)),
    );
    if (contested || (binding && !best.sure)) return undefined;
    // Started later it also ends later.
    const late = new Set(offLimits(startMs + (job.endMs - this.now)));
    const { fleet } = this.ground;
    const runsInto = ({ index, gpus }: Stand): boolean =>
      gpus.some((at) => late.has(fleet.at(index).node.gpus[at]!.id));
    if (late.size > 0 && stands.some(runsInto)) return undefined;
    return { atMs: startMs, promised: binding };
  }

  /** Whether a start by latest ends is kept to: it is near, or the task has queued for long. */
  private isBinding(
    task: PlanTask,
    { head, sure }: { readonly head: Head; readonly sure: boolean },
  ): boolean {
    const { predict, promiseWithinMs, promiseAfterMs } = this.backfill;
    if (!predict || (sure && head.startMs - this.now <= promiseWithinMs)) return true;
    return this.now - task.submittedMs - task.heldMs >= promiseAfterMs;
  }

  /** The earliest start on one of these lists of models. */
  private earliest(
    job: Job,
    of: {
      preferences: readonly (readonly string[])[];
      models: readonly string[];
      basis: Basis;
    },
  ): { head: Head; sure: boolean } | undefined {
    const { preferences, models, basis } = of;
    let best: { head: Head; sure: boolean } | undefined;
    for (const list of preferences) {
      const found = findCover(this.ground, {
        task: job.task,
        models: list,
        holdings: this.holdingsOn,
        cost: (ender) => this.endOf(ender, basis),
        total: "greatest",
        avoid: (index) => this.isOn(index),
      });
      if (found === undefined) continue;
      const startMs = Math.max(this.now, found.cost);
      if (best !== undefined && best.head.startMs <= startMs) continue;
      const sure = [...found.holders].every(({ endMs }) => Number.isFinite(endMs));
      const stands = [...found.members].map(([index, members]) =>
        this.stand({ index, members, models: list, task: job.task, startMs, basis }),
      );
      const places = { ghosts: [], hidden: false, stale: false };
      best = { head: { task: job.task, models, basis, startMs, stands, ...places }, sure };
    }
    return best;
  }

  /** Whether a job might run on a node, by models alone. */
  private mayUse(
    { job, models }: { readonly job: Job; readonly models: readonly string[] },
    index: number,
  ): boolean {
    if (job.gpuMilli === 0 || models.length === 0) return true;
    return this.ground.fleet.at(index).node.gpus.some(({ model }) => models.includes(model));
  }

  /** Makes the heads' places invisible to a job with these ends, and only those of heads that it might delay. */
  hide(ends: Ends): void {
    for (const head of this.heads) {
      const hidden = mayDelay(ends, head);
      if (hidden === head.hidden && !(hidden && head.stale)) continue;
      this.show(head);
      if (!hidden) continue;
      for (const stand of head.stands) this.hold(head, stand, this.holdingsOn(stand.index));
      head.hidden = true;
      head.stale = false;
    }
  }

  /** Something has changed on these nodes. */
  changed(indexes: Iterable<number>): void {
    if (this.heads.length === 0) return;
    for (const index of indexes) {
      const head = this.headOn.get(index);
      if (head !== undefined) head.stale = true;
    }
  }

  /** Takes the heads' places out of the draft. */
  clear(): void {
    for (const head of this.heads) if (head.hidden) this.show(head);
  }

  private show(head: Head): void {
    for (const ghost of head.ghosts) this.ground.give(ghost);
    head.ghosts.length = 0;
    head.hidden = false;
  }

  /** Whether a head that a job with these ends might delay is to start on a node; without ends: any head. */
  isOn(index: number, ends?: Ends): boolean {
    const head = this.headOn.get(index);
    return head !== undefined && (ends === undefined || mayDelay(ends, head));
  }

  private endOf(ender: Ender, basis: Basis): number {
    const { sinceMs } = ender;
    // Where nobody knows the latest end the expected one is the best guess.
    const known = basis === "expected" || ender.endMs === Number.POSITIVE_INFINITY;
    const endMs = known ? ender.expectedMs : ender.endMs;
    if (Number.isFinite(endMs)) return Math.max(this.now, endMs);
    return this.now + Math.max(leastGuessMs, this.now - sinceMs);
  }

  /** Which GPUs of a node the head gets: first those that are freed for it, so that the free ones can be used till then. */
  private stand(of: {
    index: number;
    members: number;
    models: readonly string[];
    task: PlanTask;
    startMs: number;
    basis: Basis;
  }): Stand {
    const { index, members, models, task, startMs, basis } = of;
    const { demand } = task;
    const { node, shared } = this.ground.fleet.at(index);
    if (shared) return { index, members, gpus: this.standOnParts(of) };
    const free = new Set(this.ground.freeGpus(index));
    const excluded = new Set(task.excludedGpus);
    const usable = node.gpus.flatMap((gpu, at) => {
      const willDo =
        (models.length === 0 || models.includes(gpu.model)) &&
        gpu.memoryMib >= demand.gpuMinMemoryMib &&
        (demand.simulatedOk || !gpu.simulated) &&
        !excluded.has(gpu.id);
      return willDo ? [at] : [];
    });
    const ends = new Map<number, number>();
    for (const { holder, held } of this.holdingsOn(index)) {
      const endMs = this.endOf(holder, basis);
      if (endMs <= startMs) for (const at of held.gpus) ends.set(at, endMs);
    }
    const order = usable
      .filter((at) => free.has(at) || ends.has(at))
      .map((at) => ({ at, endMs: ends.get(at) ?? Number.NaN }))
      .toSorted((a, b) => {
        // Held ones by their end, then the free ones.
        const gap = Number(Number.isNaN(a.endMs)) - Number(Number.isNaN(b.endMs));
        return gap !== 0 ? gap : a.endMs - b.endMs || a.at - b.at;
      });
    return { index, members, gpus: order.slice(0, members * demand.gpuCount).map(({ at }) => at) };
  }

  /** The GPUs that the head has parts of, or has whole on a node that gives out parts, with all gone that ends by its start. */
  private standOnParts(of: {
    index: number;
    members: number;
    models: readonly string[];
    task: PlanTask;
    startMs: number;
    basis: Basis;
  }): readonly number[] {
    const { index, members, models, task, startMs, basis } = of;
    const { fleet } = this.ground;
    const shape = fleet.shapeOf(task, models);
    if (shape === undefined) return [];
    const room = this.ground.gpuRoom(index);
    for (const { holder, held } of this.holdingsOn(index)) {
      if (this.endOf(holder, basis) <= startMs) room.give(held);
    }
    const { node } = fleet.at(index);
    const usable = room.usable(shape);
    const excluded = new Set(task.excludedGpus);
    for (const [at, { id }] of node.gpus.entries()) if (excluded.has(id)) usable[at] = false;
    return [...new Set(room.pack(shape, usable, members).flatMap(({ gpus }) => gpus))];
  }

  private hold(head: Head, stand: Stand, holdings: readonly Holding<Ender>[]): void {
    const { ground } = this;
    const { index, members } = stand;
    for (const at of stand.gpus) {
      // Of a GPU that is shared, whatever is left of it.
      const ghost = ground.fill(index, at);
      if (ghost !== undefined) head.ghosts.push(ghost);
    }
    const { demand } = head.task;
    const left = ground.freeHost(index);
    const need = {
      cpuMillis: members * demand.cpuMillis,
      memoryMib: members * demand.memoryMib,
      diskMib: members * demand.diskMib,
    };
    for (const { holder, held } of holdings) {
      if (this.endOf(holder, head.basis) > head.startMs) continue;
      need.cpuMillis -= held.shape.cpuMillis;
      need.memoryMib -= held.shape.memoryMib;
      need.diskMib -= held.shape.diskMib;
    }
    const within = (wanted: number, most: number): number => Math.max(0, Math.min(wanted, most));
    const shape = ground.fleet.free.shape({
      ...emptyRequest,
      cpuMillis: within(need.cpuMillis, left.cpuMillis),
      memoryMib: within(need.memoryMib, left.memoryMib),
      diskMib: within(need.diskMib, left.diskMib),
    });
    const ghost = { shape, place: { node: index, gpus: [] } };
    if (ground.take(ghost)) head.ghosts.push(ghost);
  }
}

/** Whether a job that starts now might be in a head's way. */
function mayDelay({ endMs, likelyEndMs }: Ends, { basis, startMs }: Head): boolean {
  return (basis === "latest" ? endMs : likelyEndMs) > startMs;
}

/** Whether a job competes with a head for GPUs of one model, or both need none. */
function inOnePool(head: Head, job: Job, models: readonly string[]): boolean {
  const cores = head.task.demand.gpuCount === 0;
  if (cores || job.gpuMilli === 0) return cores && job.gpuMilli === 0;
  if (head.models.length === 0 || models.length === 0) return true;
  return head.models.some((model) => models.includes(model));
}
