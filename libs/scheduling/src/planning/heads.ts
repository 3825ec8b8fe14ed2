import { emptyRequest } from "../placement/shapes.ts";
import type { PlanTask } from "../plan.ts";
import { findCover, type Holding } from "./cover.ts";
import type { Ground, Taken } from "./ground.ts";
import type { Job } from "./line.ts";

/** Whatever holds something and will end. */
export interface Ender {
  /** Latest end; Infinity: not known. */
  readonly endMs: number;
  /** Since when it runs, to guess by where its end is not known. */
  readonly sinceMs: number;
}

/** What a head's members take on one node once it starts. */
interface Stand {
  readonly index: number;
  readonly gpus: readonly number[];
  readonly members: number;
}

/** A task at the head of the line with the start that is reserved for it. */
interface Head {
  readonly task: PlanTask;
  readonly models: readonly string[];
  readonly startMs: number;
  readonly stands: readonly Stand[];
}

/** Where nothing is known of an end, a task is taken to run as long again as it has, and so much more. */
const leastGuessMs = 600_000;

/**
 * Backfill: the first task that finds no room in a pool of GPUs has its start reserved, at the earliest time at which
 * enough of what runs has ended, on certain GPUs of certain nodes. Whatever might outlast that time sees those GPUs
 * (and the CPU, memory and disk that the head needs there) as taken; what ends before it may use them (EASY: Lifka,
 * "The ANL/IBM SP scheduling system", JSSPP '95; here for a fleet of unlike nodes). One head for each pool: tasks that
 * may use no common model do not wait for each other.
 */
export class Heads {
  private readonly heads: Head[] = [];
  /** The starts by node: no two heads are to start on one. */
  private readonly startOn = new Map<number, number>();
  /** Who found no room so far, with the models it may use: it goes before whatever comes later. */
  private readonly blocked: { readonly job: Job; readonly models: readonly string[] }[] = [];
  private readonly ground: Ground;
  private readonly holdingsOn: (index: number) => readonly Holding<Ender>[];
  private readonly now: number;
  /** What stands for the heads in the draft. */
  private ghosts: Taken[] = [];
  /** The end of the job that the ghosts hold for; NaN: they have to be made anew. */
  private forEndMs = Number.NaN;

  constructor(
    ground: Ground,
    of: { now: number; holdings: (index: number) => readonly Holding<Ender>[] },
  ) {
    this.ground = ground;
    this.now = of.now;
    this.holdingsOn = of.holdings;
  }

  /**
   * Reserves the start of a job that found no room, on one of these lists of models. Answers it where it is a bound:
   * all ends that it rests on are known, and nobody who goes before it may want those nodes.
   */
  reserve(job: Job, preferences: readonly (readonly string[])[]): number | undefined {
    if (preferences.length === 0) return undefined;
    const models = preferences.some((list) => list.length === 0) ? [] : preferences.flat();
    const before = this.blocked.length;
    this.blocked.push({ job, models });
    if (this.heads.some((head) => inOnePool(head, job, models))) return undefined;
    this.clear();
    let best: { head: Head; sure: boolean } | undefined;
    for (const list of preferences) {
      const found = findCover(this.ground, {
        task: job.task,
        models: list,
        holdings: this.holdingsOn,
        cost: (ender) => this.endOf(ender),
        total: "greatest",
        avoid: (index) => this.isOn(index, Number.POSITIVE_INFINITY),
      });
      if (found === undefined) continue;
      const startMs = Math.max(this.now, found.cost);
      if (best !== undefined && best.head.startMs <= startMs) continue;
      const sure = [...found.holders].every(({ endMs }) => Number.isFinite(endMs));
      const stands = [...found.members].map(([index, members]) =>
        this.stand({ index, members, models: list, task: job.task, startMs }),
      );
      best = { head: { task: job.task, models, startMs, stands }, sure };
    }
    if (best === undefined) return undefined;
    this.heads.push(best.head);
    // Members that each hold parts of several GPUs are packed greedily: they may yet find no place together.
    const { demand, replicas } = job.task;
    if (demand.part !== undefined && demand.gpuCount > 1 && replicas > 1) return undefined;
    const { stands, startMs } = best.head;
    for (const { index } of stands) this.startOn.set(index, startMs);
    const earlier = this.blocked.slice(0, before);
    const contested = earlier.some((other) =>
      stands.some(({ index }) => this.mayUse(other, index)),
    );
    return best.sure && !contested ? startMs : undefined;
  }

  /** Whether a job might run on a node, by models alone. */
  private mayUse(
    { job, models }: { readonly job: Job; readonly models: readonly string[] },
    index: number,
  ): boolean {
    if (job.gpuMilli === 0 || models.length === 0) return true;
    return this.ground.fleet.at(index).node.gpus.some(({ model }) => models.includes(model));
  }

  /** Makes the heads' places invisible to a job that ends so late, and only those of heads that it might delay. */
  hide(endMs: number): void {
    if (this.heads.length === 0 || this.forEndMs === endMs) return;
    this.clear();
    this.forEndMs = endMs;
    for (const head of this.heads) {
      if (head.startMs >= endMs) continue;
      for (const stand of head.stands) this.hold(head, stand, this.holdingsOn(stand.index));
    }
  }

  /** Something has changed on these nodes. */
  changed(indexes: Iterable<number>): void {
    if (this.heads.length === 0) return;
    for (const index of indexes) {
      if (this.isOn(index, Number.POSITIVE_INFINITY)) this.forEndMs = Number.NaN;
    }
  }

  /** Takes the heads' places out of the draft. */
  clear(): void {
    for (const ghost of this.ghosts) this.ground.give(ghost);
    this.ghosts = [];
    this.forEndMs = Number.NaN;
  }

  /** Whether a head that a job with this end might delay is to start on a node. */
  isOn(index: number, endMs: number): boolean {
    return (this.startOn.get(index) ?? Number.POSITIVE_INFINITY) < endMs;
  }

  private endOf({ endMs, sinceMs }: Ender): number {
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
  }): Stand {
    const { index, members, models, task, startMs } = of;
    const { demand } = task;
    const { node, shared } = this.ground.fleet.at(index);
    if (shared) return { index, members, gpus: this.standOnParts(of) };
    const free = new Set(this.ground.freeGpus(index));
    const usable = node.gpus.flatMap((gpu, at) => {
      const willDo =
        (models.length === 0 || models.includes(gpu.model)) &&
        gpu.memoryMib >= demand.gpuMinMemoryMib &&
        (demand.simulatedOk || !gpu.simulated) &&
        !task.excludedGpus.includes(gpu.id);
      return willDo ? [at] : [];
    });
    const ends = new Map<number, number>();
    for (const { holder, held } of this.holdingsOn(index)) {
      const endMs = this.endOf(holder);
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
  }): readonly number[] {
    const { index, members, models, task, startMs } = of;
    const { fleet } = this.ground;
    const shape = fleet.shapeOf(task, models);
    if (shape === undefined) return [];
    const room = this.ground.gpuRoom(index);
    for (const { holder, held } of this.holdingsOn(index)) {
      if (this.endOf(holder) <= startMs) room.give(held);
    }
    const { node } = fleet.at(index);
    const usable = room.usable(shape);
    for (const [at, { id }] of node.gpus.entries()) {
      if (task.excludedGpus.includes(id)) usable[at] = false;
    }
    const gpus = new Set<number>();
    for (let member = 0; member < members; member++) {
      for (const at of room.place(shape, usable) ?? []) gpus.add(at);
    }
    return [...gpus];
  }

  private hold(head: Head, stand: Stand, holdings: readonly Holding<Ender>[]): void {
    const { ground } = this;
    const { index, members } = stand;
    for (const at of stand.gpus) {
      // Of a GPU that is shared, whatever is left of it.
      const ghost = ground.fill(index, at);
      if (ghost !== undefined) this.ghosts.push(ghost);
    }
    const { demand } = head.task;
    const left = ground.freeHost(index);
    const need = {
      cpuMillis: members * demand.cpuMillis,
      memoryMib: members * demand.memoryMib,
      diskMib: members * demand.diskMib,
    };
    for (const { holder, held } of holdings) {
      if (this.endOf(holder) > head.startMs) continue;
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
    this.take({ shape, place: { node: index, gpus: [] } });
  }

  private take(ghost: Taken): void {
    if (this.ground.take(ghost)) this.ghosts.push(ghost);
  }
}

/** Whether a job competes with a head for GPUs of one model, or both need none. */
function inOnePool(head: Head, job: Job, models: readonly string[]): boolean {
  const cores = head.task.demand.gpuCount === 0;
  if (cores || job.gpuMilli === 0) return cores && job.gpuMilli === 0;
  if (head.models.length === 0 || models.length === 0) return true;
  return head.models.some((model) => models.includes(model));
}
