import type { GpuId, TaskId } from "@fastgpu/domain/ids";
import { FirstGroups } from "../order/first-groups.ts";
import { IntHeap } from "../order/heap.ts";
import { ShareDraft } from "../order/share-draft.ts";
import type { PlanNode, PlanQueue, PlanTask } from "../plan.ts";
import { Cores } from "./cores.ts";
import type { Lengths } from "./future.ts";
import { Ends } from "./rough-ends.ts";
import { Accounts, hold, type Stop } from "./rough-limits.ts";
import { classOf, gpusOf, type Ghost, type RoughLine } from "./rough-line.ts";
import { Slots, type Start, type Widths } from "./slots.ts";

/** A line for whose tasks starts are told roughly. */
export interface FlowInput {
  readonly line: RoughLine;
  readonly lengths: Lengths;
  /** Default: those of the state. */
  readonly queues?: readonly PlanQueue[] | undefined;
  /** Stands in line for the task of its id. */
  readonly target?: PlanTask | undefined;
  /** Does not stand in line. */
  readonly absent?: TaskId | undefined;
  /** Stand in line beside all others, and take nothing. Only tasks with GPUs. */
  readonly ghosts?: readonly Ghost[];
}

/** Who waits for the same room, and what the last of them was told. */
interface Crowd extends Stop {
  readonly widths: Widths;
  told: {
    readonly version: number;
    readonly byMs: number;
    readonly fromMs: number;
    readonly forMs: number;
    readonly start: Start;
  };
}

const nothingTold = {
  ...{ version: -1, byMs: 0, fromMs: 0, forMs: 0 },
  start: { kind: "waits", atMs: 0 },
} as const;

/** As in a plan: who stays within a guarantee goes first. */
const entitledMd = -1e9;

/**
 * Takes the tasks of a line one after the other: each the GPUs that are free first (a task without GPUs its part of the
 * fleet's cores and memory) for as long as it is taken to run, of the queue that is most behind its share by then. Nobody
 * is stopped for anybody. Costs some O(log nodes) for each task.
 *
 * List scheduling (Graham 1969) with EASY backfilling (Lifka, JSSPP 1995): what is kept idle for the first that waits of a
 * kind of node goes to who is done in time.
 */
export class Flow {
  /** Nobody looked at from here on starts much sooner. */
  presentMs = 0;
  private readonly input: FlowInput;
  private readonly ghosts: readonly Ghost[];
  private readonly of: RoughLine;
  private readonly slots: Slots;
  private readonly cores: Cores;
  private readonly accounts: Accounts;
  /** Who waits for the same room, by class. */
  private readonly crowds: (Crowd | undefined)[] = [];
  /** By place in line: what it is the first of. */
  private readonly firsts = new Map<number, Stop>();
  private readonly shares: ShareDraft;
  private readonly ends = new Ends();
  /** Strands whose first place may go now, and places that go at a time of their own. */
  private readonly ready: FirstGroups;
  private readonly strands: readonly Waiting[];
  private readonly later: IntHeap;
  private readonly laterMs: Float64Array;
  /** By place: how long it holds what it takes; NaN: not asked yet. */
  private readonly forMs: Float64Array;

  constructor(input: FlowInput) {
    const { line, lengths, ghosts = [] } = input;
    this.input = input;
    this.ghosts = ghosts;
    this.of = line;
    const { state, nowMs } = line;
    const kept = reservedTimes(line);
    this.slots = new Slots(line.kinds, (node) => freeTimes(node, { nowMs, lengths, kept }));
    this.cores = new Cores({ state, nowMs, lengths });
    this.accounts = new Accounts({ state, nowMs, lengths }, input.queues ?? state.queues);
    const { policy, baseMd, jobs } = line;
    const { queue, unit, leafMd, attempts } = line.line;
    const shares = new ShareDraft(policy.order, queue.tree, unit.capacityMilli, leafMd);
    this.shares = shares;
    for (const { lease, gpuMilli, cpuMillis } of attempts) {
      const milli = unit.milliOf(gpuMilli, cpuMillis);
      const atMs = Math.max(nowMs, lengths.endMs(lease));
      this.ends.add({ atMs, leaf: line.line.leafOf(lease), milli });
    }
    const all = jobs.length + ghosts.length;
    const places = new Int32Array(all);
    const laterMs = new Float64Array(all);
    this.laterMs = laterMs;
    this.forMs = new Float64Array(all).fill(Number.NaN);
    // Each ghost is a strand of its own.
    const owners = [...line.strands, ...ghosts];
    const strands = [
      ...line.strands.map((strand) => new Waiting(strand.places)),
      ...ghosts.map((_, at) => new Waiting(Int32Array.of(jobs.length + at))),
    ];
    this.strands = strands;
    this.ready = new FirstGroups(
      { groups: strands.length, leaves: queue.tree.nodes.length },
      {
        leaf: (at) => owners[at]!.leaf,
        baseMd: (at) =>
          Math.min(
            baseMd[owners[at]!.leaf]!,
            ghosts[at - line.strands.length]?.scoreMd ?? Infinity,
          ),
        entitledMd: (at) => (shares.entitled(owners[at]!.leaf, owners[at]!.milli) ? entitledMd : 0),
        termMd: (leaf) => shares.termMd(leaf),
        submitMs: () => 0,
        tie: (at) => ghosts[at - line.strands.length]?.place ?? strands[at]!.first,
      },
    );
    this.later = new IntHeap({
      before: (a, b) => laterMs[a]! < laterMs[b]! || (laterMs[a] === laterMs[b] && a < b),
      places: () => places,
    });
    for (const at of strands.keys()) this.ready.enter(at);
  }

  /** The next task that has its time; undefined: there is none left. */
  next(): { readonly task: PlanTask; readonly atMs: number } | undefined {
    const { later, of, ghosts } = this;
    const { target, absent } = this.input;
    for (;;) {
      const firstMs = Math.max(of.nowMs, this.slots.firstMs);
      this.presentMs = firstMs;
      this.giveBack(firstMs);
      while (later.size > 0 && this.laterMs[later.peek()]! <= firstMs) this.enter(later.pop());
      // Where nothing may go now, time goes on to the next that may.
      const alone = this.ready.isEmpty;
      const at = alone ? later.pop() : this.takeReady();
      const ghost = ghosts[at - of.jobs.length];
      const own = of.jobs[at]?.task ?? ghost?.task;
      if (own === undefined) return undefined;
      if (ghost === undefined && own.id === absent) continue;
      const task = ghost === undefined && own.id === target?.id ? target : own;
      const atMs = this.take(at, task, alone ? Infinity : firstMs);
      if (atMs !== undefined) return { task, atMs };
    }
  }

  private takeReady(): number {
    const { group } = this.ready.take();
    const strand = this.strands[group]!;
    const at = strand.take();
    if (strand.first < Infinity) this.ready.enter(group);
    return at;
  }

  /** A place may go now. */
  private enter(at: number): void {
    const { strandOf, strands, jobs } = this.of;
    const group = strandOf[at] ?? strands.length + at - jobs.length;
    const strand = this.strands[group]!;
    const before = strand.first;
    strand.put(at);
    if (before === Infinity) this.ready.enter(group);
    else if (strand.first < before) this.ready.renew([group]);
  }

  /** Who holds less by then is further behind its share. */
  private giveBack(nowMs: number): void {
    const { ends, of } = this;
    if (ends.nextMs > nowMs) return;
    const roots = new Set<number>();
    while (ends.nextMs <= nowMs) {
      const { leaf, milli } = ends.take();
      this.shares.change(leaf, -milli);
      roots.add(of.line.queue.tree.rootOf(leaf));
    }
    for (const root of roots) this.ready.fell(of.leavesOf.get(root) ?? []);
  }

  /** Takes what a task needs and answers from when on; undefined: not by then, and it is asked again later. */
  private take(at: number, task: PlanTask, byMs: number): number | undefined {
    const { of, accounts } = this;
    const ghost = this.ghosts[at - of.jobs.length];
    const own = task === of.jobs[at]?.task;
    const gpus = own ? of.gpus[at]! : gpusOf(task);
    const forMs = this.holdsFor(at, task);
    const limits = gpus === 0 ? [] : own ? accounts.of(of.leaves[at]!, task) : accounts.for(task);
    let fromMs = Math.max(of.nowMs, task.notBeforeMs);
    let stops: Stop | undefined;
    for (const account of limits) {
      const freeMs = account.freeMs[gpus - 1] ?? Infinity;
      if (freeMs > fromMs) [fromMs, stops] = [freeMs, account];
    }
    let start: Start = { kind: fromMs === Infinity ? "starts" : "waits", atMs: fromMs };
    if (fromMs <= byMs && fromMs < Infinity) {
      const crowd = this.crowdOf(at, task, own);
      start =
        gpus > 0
          ? this.takeSlots(crowd, task, { fromMs, forMs, nowMs: byMs }, ghost !== undefined)
          : this.cores.take(task, { fromMs, forMs });
      stops = crowd;
    }
    const until = this.firsts.get(at);
    if (until !== undefined && (start.kind === "starts" || until !== stops)) this.release(until);
    if (start.kind === "waits") {
      this.defer(at, start.atMs, stops);
      return undefined;
    }
    if (start.atMs < Infinity && ghost === undefined) {
      const endMs = start.atMs + forMs;
      for (const account of limits) hold(account, gpus, endMs);
      const [leaf, { milli }] = [of.leaves[at]!, of.jobs[at]!];
      this.shares.change(leaf, milli);
      this.ends.add({ atMs: endMs, leaf, milli });
    }
    return start.atMs;
  }

  /** For how long a place holds what it takes. */
  private holdsFor(at: number, task: PlanTask): number {
    const known = this.forMs[at]!;
    if (!Number.isNaN(known)) return known;
    const turns = this.of.turns[at] ?? this.ghosts[at - this.of.jobs.length]!.turns;
    return (this.forMs[at] = turns * this.input.lengths.runMs(task));
  }

  /** Takes it, unless somebody like it who wants it for no longer was told to wait and nothing has been taken since. */
  private takeSlots(
    crowd: Crowd,
    task: PlanTask,
    span: { readonly fromMs: number; readonly forMs: number; readonly nowMs: number },
    trial: boolean,
  ): Start {
    const { fromMs, forMs, nowMs: byMs } = span;
    const { version } = this.slots;
    const { told } = crowd;
    const asBefore = told.version === version && told.byMs === byMs && told.fromMs === fromMs;
    if (asBefore && forMs >= told.forMs) return told.start;
    const start = this.slots.take(task, crowd.widths, span, trial);
    if (start.kind === "waits") crowd.told = { version, byMs, fromMs, forMs, start };
    return start;
  }

  /** Who waits for the same room as a task. */
  private crowdOf(at: number, task: PlanTask, own: boolean): Crowd {
    const { crowds, of } = this;
    const number = own ? of.classes[at]! : this.classOf(task);
    let crowd = crowds[number];
    if (crowd === undefined) {
      const widths = of.widths[number] ?? of.kinds.widthsOf(task.demand);
      crowd = { widths, stopped: [], next: 0, first: -1, told: nothingTold };
      crowds[number] = crowd;
    }
    return crowd;
  }

  /** What is like nothing in line is of a class of its own. */
  private classOf(task: PlanTask): number {
    const { classIds, kinds } = this.of;
    return classIds.get(classOf(task, kinds.widthsOf(task.demand))) ?? classIds.size;
  }

  private defer(at: number, toMs: number, stops: Stop | undefined): void {
    if (stops !== undefined && stops.first >= 0 && stops.first !== at) {
      stops.stopped.push(at);
      return;
    }
    if (stops !== undefined) {
      stops.first = at;
      this.firsts.set(at, stops);
    }
    this.laterMs[at] = toMs;
    this.later.push(at);
  }

  /** The first that waited goes on: so does the one after it. */
  private release(stop: Stop): void {
    this.firsts.delete(stop.first);
    const next = stop.stopped[stop.next];
    if (next === undefined) {
      stop.first = -1;
      return;
    }
    stop.next++;
    stop.first = next;
    this.firsts.set(next, stop);
    this.enter(next);
  }
}

/** Places of a strand that may go now. */
class Waiting {
  /** The first of them; Infinity: there is none. */
  first: number;
  private readonly places: Int32Array;
  private next = 0;
  /** Places that came back, the next one last. */
  private readonly again: number[] = [];

  constructor(places: Int32Array) {
    this.places = places;
    this.first = places[0] ?? Infinity;
  }

  take(): number {
    const { first } = this;
    if (this.again.at(-1) === first) this.again.pop();
    else this.next++;
    this.settle();
    return first;
  }

  put(at: number): void {
    const { again } = this;
    let place = again.length;
    while (place > 0 && again[place - 1]! < at) place--;
    again.splice(place, 0, at);
    this.settle();
  }

  private settle(): void {
    this.first = Math.min(this.again.at(-1) ?? Infinity, this.places[this.next] ?? Infinity);
  }
}

/** From when each GPU of a node is free. */
function freeTimes(
  node: PlanNode,
  of: {
    readonly nowMs: number;
    readonly lengths: Lengths;
    readonly kept: ReadonlyMap<GpuId, number>;
  },
): number[] {
  const { nowMs, lengths, kept } = of;
  const heldMs = new Map<GpuId, number>();
  for (const lease of node.running) {
    const endMs = Math.max(nowMs, lengths.endMs(lease));
    for (const id of lease.gpus) heldMs.set(id, Math.max(heldMs.get(id) ?? 0, endMs));
  }
  return node.gpus.map(({ id, free }) =>
    Math.max(heldMs.get(id) ?? (free ? nowMs : Infinity), kept.get(id) ?? 0),
  );
}

/** GPUs that are nobody's in the line for as long as reservations may need as many. */
function reservedTimes({ state, nowMs }: RoughLine): ReadonlyMap<GpuId, number> {
  const kept = new Map<GpuId, number>();
  for (const each of state.reservations.filter(({ endMs }) => endMs > nowMs)) {
    const { gpus, perNode = 1, models, endMs } = each;
    const willDo = state.nodes
      .filter(({ acceptsWork }) => acceptsWork)
      .flatMap((node) => {
        const own = node.gpus.filter(
          ({ id, model }) => !kept.has(id) && (models.length === 0 || models.includes(model)),
        );
        return own.slice(0, own.length - (own.length % perNode));
      });
    for (const { id } of willDo.slice(0, gpus)) kept.set(id, endMs);
  }
  return kept;
}
