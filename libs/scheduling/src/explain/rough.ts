import type { GpuId } from "@fastgpu/domain/ids";
import { milliOfDemand, milliOfHeld } from "../gpu-part.ts";
import { FirstGroups } from "../order/first-groups.ts";
import { IntHeap } from "../order/heap.ts";
import type { Slot } from "../order/jobs.ts";
import { ShareDraft } from "../order/share-draft.ts";
import type { PlanNode, PlanQueue, PlanState, PlanTask } from "../plan.ts";
import { attemptsOf } from "../planning/crew.ts";
import { Expectations } from "../planning/expectations.ts";
import { createLine, type Job, type Line } from "../planning/line.ts";
import { rowsByKey, rowsOf } from "../planning/queues.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { Cores } from "./cores.ts";
import type { Lengths } from "./future.ts";
import { Slots, type Start } from "./slots.ts";

/** A line for whose tasks starts are told roughly. */
interface RoughInput {
  readonly state: PlanState;
  readonly line: RoughLine;
  readonly nowMs: number;
  readonly lengths: Lengths;
}

/** Everything that waits, once for each lease of an array: queue by queue, each in its own order. */
interface RoughLine {
  readonly policy: SchedulingPolicy;
  readonly line: Line;
  readonly jobs: readonly Job[];
  /** By position in `jobs`. */
  readonly leaves: Int32Array;
  /** By leaf: the least score of its jobs without the share term. */
  readonly baseMd: Float64Array;
}

/** The line of a state. */
function roughLine(state: PlanState, policy: SchedulingPolicy, nowMs: number): RoughLine {
  const line = createLine({
    ...{ state, policy, attempts: attemptsOf(state.nodes), ready: state.tasks, now: nowMs },
    // The order does not go by run times.
    expectations: new Expectations([]),
  });
  const { queue } = line;
  const slots = [...line.jobs.keys()];
  const base = new Map(slots.map((slot) => [slot, queue.baseScoreMd(slot, nowMs)]));
  const priority = (slot: Slot): number => line.jobs.get(slot)!.task.priority;
  // The order of the line is that of their submits: where all else is equal it stays.
  slots.sort((a, b) => priority(b) - priority(a) || base.get(a)! - base.get(b)!);
  const leaves = Int32Array.from(slots, (slot) => queue.jobs.leaf[slot]!);
  const baseMd = new Float64Array(queue.tree.nodes.length).fill(Infinity);
  for (const [at, slot] of slots.entries()) {
    baseMd[leaves[at]!] = Math.min(baseMd[leaves[at]!]!, base.get(slot)!);
  }
  return { policy, line, jobs: slots.map((slot) => line.jobs.get(slot)!), leaves, baseMd };
}

/**
 * Roughly when a task starts: one after the other takes the GPUs that are free first (of a task without GPUs: its part of
 * the fleet's cores and memory) for as long as it is taken to run, of the queue that is most behind its share by then.
 * Nobody is stopped for anybody. Infinity: what it waits for has no known end. Costs some O(log nodes) for each task before it.
 *
 * List scheduling (Graham 1969) with EASY backfilling (Lifka, JSSPP 1995): what is kept idle for the first that waits of a
 * kind of node goes to who is done in time.
 */
function roughStart(input: RoughInput, target: PlanTask): number {
  const flow = new Flow(input, target);
  for (;;) {
    const started = flow.next();
    if (started === undefined) return Infinity;
    if (started.task === target) return started.atMs;
  }
}

/**
 * By so much later than worked out a latest start is told: measured against forecasts that follow every plan, 19 in 20
 * start by then where nobody is stopped (docs/decisions/planning.md).
 */
const latestFactor = 1.67;

/** Rough starts of one task, as it is and with changes. */
export class RoughStarts {
  private readonly of: {
    readonly state: PlanState;
    readonly policy: SchedulingPolicy;
    readonly nowMs: number;
  };
  private line: RoughLine | undefined;

  /** The task is one of the state's. */
  constructor(of: RoughStarts["of"]) {
    this.of = of;
  }

  /** Where it waits in place of what has its id, in such a state. Its place in line is the same. */
  start(task: PlanTask, lengths: Lengths, over: Partial<PlanState> = {}): number {
    const { state, policy, nowMs } = this.of;
    const line = (this.line ??= roughLine(state, policy, nowMs));
    return roughStart({ state: { ...state, ...over }, line, nowMs, lengths }, task);
  }

  /** The same at the latest. */
  latest(task: PlanTask, lengths: Lengths, over: Partial<PlanState> = {}): number {
    const { nowMs } = this.of;
    return nowMs + latestFactor * (this.start(task, lengths, over) - nowMs);
  }
}

/** What keeps places in line waiting. */
interface Stop {
  /** Those behind the first of them. */
  readonly stopped: number[];
  /** The first waits for its time, or is looked at anew; -1: none. */
  first: number;
}

/** A limit as times from which each of its GPUs may be held by somebody else. */
interface Account extends Stop {
  /** Ascending. */
  readonly freeMs: number[];
}

/** When so much of a queue's share is given back. */
interface End {
  readonly atMs: number;
  readonly leaf: number;
  readonly milli: number;
}

/** As in a plan: who stays within a guarantee goes first. */
const entitledMd = -1e9;

/** Takes the tasks of a line one after the other. */
class Flow {
  private readonly input: RoughInput;
  /** Stands in line for the task of its id. */
  private readonly target: PlanTask;
  private readonly slots: Slots;
  private readonly cores: Cores;
  private readonly rows: ReadonlyMap<string, PlanQueue>;
  private readonly accounts: ReadonlyMap<PlanQueue, Account>;
  /** Who waits for the same room, by class. */
  private readonly crowds = new Map<string, Stop>();
  /** By place in line: what it is the first of. */
  private readonly firsts = new Map<number, Stop>();
  private readonly shares: ShareDraft;
  private readonly leavesOf: ReadonlyMap<number, readonly number[]>;
  /** What gives its queue's share back: the next one last. */
  private readonly ends: End[] = [];
  /** Places in line that may go now, and such that go at a time of their own. */
  private readonly ready: FirstGroups;
  private readonly later: IntHeap;
  private readonly laterMs: Float64Array;

  constructor(input: RoughInput, target: PlanTask) {
    this.input = input;
    this.target = target;
    const { state, nowMs, lengths } = input;
    const { policy, line, jobs, leaves, baseMd } = input.line;
    const kept = reservedTimes(input);
    this.slots = new Slots(state.nodes, (node) => freeTimes(node, input, kept));
    this.cores = new Cores(input);
    this.rows = rowsByKey(state.queues.filter(({ limitGpus }) => limitGpus !== undefined));
    this.accounts = new Map([...this.rows.values()].map((row) => [row, accountOf(row, input)]));
    const { tree } = line.queue;
    const shares = new ShareDraft(policy.order, tree, line.unit.capacityMilli, line.leafMd);
    this.shares = shares;
    this.leavesOf = Map.groupBy(new Set(leaves), (leaf) => tree.rootOf(leaf));
    for (const { lease, gpuMilli, cpuMillis } of line.attempts) {
      const milli = line.unit.milliOf(gpuMilli, cpuMillis);
      const atMs = Math.max(nowMs, lengths.endMs(lease));
      this.ends.push({ atMs, leaf: line.leafOf(lease), milli });
    }
    this.ends.sort((a, b) => b.atMs - a.atMs);
    const places = new Int32Array(jobs.length);
    const laterMs = new Float64Array(jobs.length);
    this.laterMs = laterMs;
    this.ready = new FirstGroups(
      { groups: jobs.length, leaves: tree.nodes.length },
      {
        leaf: (at) => leaves[at]!,
        baseMd: (at) => baseMd[leaves[at]!]!,
        entitledMd: (at) => (shares.entitled(leaves[at]!, jobs[at]!.milli) ? entitledMd : 0),
        termMd: (leaf) => shares.termMd(leaf),
        submitMs: () => 0,
        tie: (at) => at,
      },
    );
    this.later = new IntHeap({
      before: (a, b) => laterMs[a]! < laterMs[b]! || (laterMs[a] === laterMs[b] && a < b),
      places: () => places,
    });
    for (const at of jobs.keys()) this.ready.enter(at);
  }

  /** The next task that has its time; undefined: there is none left. */
  next(): { readonly task: PlanTask; readonly atMs: number } | undefined {
    const { ready, later, input } = this;
    for (;;) {
      const firstMs = Math.max(input.nowMs, this.slots.firstMs);
      this.giveBack(firstMs);
      while (later.size > 0 && this.laterMs[later.peek()]! <= firstMs) ready.enter(later.pop());
      // Where nothing may go now, time goes on to the next that may.
      const alone = ready.isEmpty;
      const at = alone ? later.pop() : ready.take().group;
      const job = input.line.jobs[at];
      if (job === undefined) return undefined;
      const task = job.task.id === this.target.id ? this.target : job.task;
      const atMs = this.take(at, task, alone ? Infinity : firstMs);
      if (atMs !== undefined) return { task, atMs };
    }
  }

  /** Who holds less by then is further behind its share. */
  private giveBack(nowMs: number): void {
    const roots = new Set<number>();
    for (
      let end = this.ends.at(-1);
      end !== undefined && end.atMs <= nowMs;
      end = this.ends.at(-1)
    ) {
      this.ends.pop();
      this.shares.change(end.leaf, -end.milli);
      roots.add(this.input.line.line.queue.tree.rootOf(end.leaf));
    }
    for (const root of roots) this.ready.fell(this.leavesOf.get(root) ?? []);
  }

  /** Takes what a task needs and answers from when on; undefined: not by then, and it is asked again later. */
  private take(at: number, task: PlanTask, byMs: number): number | undefined {
    const { nowMs, lengths, line } = this.input;
    const leases = line.line.slots.get(task.id)!.length;
    const forMs = Math.ceil((task.array?.pending ?? 1) / leases) * lengths.runMs(task);
    const gpus = Math.ceil((milliOfDemand(task.demand) * task.replicas) / 1000);
    const rows = gpus > 0 ? rowsOf(this.rows, task) : [];
    const accounts = rows.flatMap((row) => this.accounts.get(row) ?? []);
    let fromMs = Math.max(nowMs, task.notBeforeMs);
    let stops: Stop | undefined;
    for (const account of accounts) {
      const freeMs = account.freeMs[gpus - 1] ?? Infinity;
      if (freeMs > fromMs) [fromMs, stops] = [freeMs, account];
    }
    let start: Start = { kind: fromMs === Infinity ? "starts" : "waits", atMs: fromMs };
    if (fromMs <= byMs && fromMs < Infinity) {
      start = (gpus > 0 ? this.slots : this.cores).take(task, { fromMs, forMs, nowMs: byMs });
      stops = this.crowdOf(task);
    }
    const until = this.firsts.get(at);
    if (until !== undefined && (start.kind === "starts" || until !== stops)) this.release(until);
    if (start.kind === "waits") {
      this.defer(at, start.atMs, stops);
      return undefined;
    }
    if (start.atMs < Infinity) {
      const endMs = start.atMs + forMs;
      for (const account of accounts) hold(account, gpus, endMs);
      this.shares.change(line.leaves[at]!, line.jobs[at]!.milli);
      this.addEnd({ atMs: endMs, leaf: line.leaves[at]!, milli: line.jobs[at]!.milli });
    }
    return start.atMs;
  }

  /** Who waits for the same room as a task. */
  private crowdOf(task: PlanTask): Stop {
    const key = this.slots.classOf(task);
    let crowd = this.crowds.get(key);
    if (crowd === undefined) this.crowds.set(key, (crowd = { stopped: [], first: -1 }));
    return crowd;
  }

  private addEnd(end: End): void {
    let [low, high] = [0, this.ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]!.atMs >= end.atMs) low = middle + 1;
      else high = middle;
    }
    this.ends.splice(low, 0, end);
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
    const next = stop.stopped.shift();
    stop.first = next ?? -1;
    if (next === undefined) return;
    this.firsts.set(next, stop);
    this.ready.enter(next);
  }
}

/** From when each GPU of a node is free. */
function freeTimes(
  node: PlanNode,
  { nowMs, lengths }: RoughInput,
  kept: ReadonlyMap<GpuId, number>,
): number[] {
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
function reservedTimes({ state, nowMs }: RoughInput): ReadonlyMap<GpuId, number> {
  const kept = new Map<GpuId, number>();
  for (const { gpus, models, endMs } of state.reservations.filter((each) => each.endMs > nowMs)) {
    const willDo = state.nodes
      .filter(({ acceptsWork }) => acceptsWork)
      .flatMap((node) => node.gpus)
      .filter(({ id, model }) => !kept.has(id) && (models.length === 0 || models.includes(model)));
    for (const { id } of willDo.slice(0, gpus)) kept.set(id, endMs);
  }
  return kept;
}

function accountOf(row: PlanQueue, { state, nowMs, lengths }: RoughInput): Account {
  const limit = row.limitGpus ?? 0;
  const freeMs: number[] = [];
  for (const lease of state.nodes.flatMap(({ running }) => running)) {
    if (lease.org !== row.org) continue;
    if (row.project !== undefined && row.project !== lease.project) continue;
    if (row.user !== undefined && row.user !== lease.user) continue;
    const endMs = Math.max(nowMs, lengths.endMs(lease));
    for (let gpu = 0; gpu < milliOfHeld(lease) / 1000; gpu++) freeMs.push(endMs);
  }
  while (freeMs.length < limit) freeMs.push(nowMs);
  freeMs.sort((a, b) => a - b);
  return { freeMs: freeMs.slice(freeMs.length - limit), stopped: [], first: -1 };
}

/** The GPUs of a limit that are free first are held until then. */
function hold({ freeMs }: Account, gpus: number, untilMs: number): void {
  freeMs.splice(0, gpus);
  const after = freeMs.findLastIndex((each) => each <= untilMs) + 1;
  freeMs.splice(after, 0, ...Array.from({ length: gpus }, () => untilMs));
}
