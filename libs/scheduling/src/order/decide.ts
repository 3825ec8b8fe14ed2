import { reserveStart } from "./backfill.ts";
import type { StartReservation } from "./backfill.ts";
import { FirstGroups } from "./first-groups.ts";
import type { Slot } from "./jobs.ts";
import type { OrderQueue } from "./queue.ts";
import { excessMd } from "./score.ts";
import type { Candidate, Room } from "./room.ts";
import { ShareDraft } from "./share-draft.ts";
import { Tiers } from "./tiers.ts";

/** One job to start, and who must stop for it. */
export interface Decision {
  readonly slot: Slot;
  /** Running jobs to stop first; empty where there was room. */
  readonly victims: readonly Slot[];
  /** Running jobs to stop and start again elsewhere, where the draft placed them, to make whole room. */
  readonly moves: readonly Slot[];
  /** It starts in the aged lane: tell `OrderQueue.jobs.setLane`, it is no victim while it runs. */
  readonly lane: boolean;
}

/** What limits one call. */
export interface DecideOptions {
  /** False: only start what fits; a caller with a large fleet looks for victims less often than it starts. */
  readonly preempt?: boolean;
  /**
   * When a job that starts now, or runs, is expected to end at the latest (Infinity: not known). With it, the start of
   * the first job that finds no room is reserved, and nothing that starts past it may delay it: for fleets whose jobs
   * cannot be stopped. Without it, past starts are on loan: the gap and the minimum run time bound the delay.
   */
  readonly expectedEndMs?: (slot: Slot) => number;
  /** Within a queue a higher priority goes first whatever the scores; between queues it says nothing then. */
  readonly priorityWithinQueue?: boolean;
  /** Added to the share term by leaf, in millidoublings: e.g. for service that it had before. */
  readonly leafMd?: ArrayLike<number>;
  /** Guarantees that the share tree does not know of, e.g. of GPUs of one model. */
  readonly guarantees?: {
    /** Whether a waiting job stays within one. */
    entitled(slot: Slot): boolean;
    /**
     * Whether a waiting job is due its place at this time, by a reservation. Then whoever can be stopped may be, however
     * short it has run and however often it was stopped. Left out: nobody is due anything.
     */
    due?(slot: Slot): boolean;
    /** Whether stopping a running job for another cuts into one that is not also the other's. */
    protects(victim: Slot, slot: Slot): boolean;
  };
  /** A move counts as a preemption: who may not be stopped for others is not moved either. Default: it does not. */
  readonly movesCount?: boolean;
  /** A job that found no room, as soon as it is known: the first of its group. */
  readonly onBlocked?: (slot: Slot) => void;
  /**
   * A waiting job about which alone is asked: the walk ends once it has started or its group has found no room. Default:
   * all are.
   */
  readonly upTo?: Slot | undefined;
  /** Greatest number of decisions; default: no bound. */
  readonly maxDecisions?: number;
}

/** Searches for victims for one job, at most: each leaves out those who would turn back. */
const maxTries = 4;

/** Added to the score of who is entitled to a guarantee: before everybody else. */
const entitledMd = -1e9;

/**
 * Decides who starts now and who stops for it. Pure but for the room, which is a draft: the queue is left as it was.
 * The ideal is the best set of jobs by score over all subsets that fit; the walk is greedy in score order instead,
 * one shape of one queue at a time, and ends after `blockedGroups` of them found no room, which keeps GPUs together
 * for wide gangs ahead of it.
 *
 * The caller commits each decision with `stop` of the victims (`leave`, and later `stop`, where stopping takes time),
 * `setLane` and `start`; a move is `stop` and `start` of one job. Calling again at the same
 * time may go on where `blockedGroups` ended the walk, and comes to rest: who has just started is no victim.
 */
export function decide(
  queue: OrderQueue,
  room: Room,
  nowMs: number,
  options: DecideOptions = {},
): readonly Decision[] {
  const walk = new Walk({ queue, room, nowMs, options });
  try {
    walk.agedLane();
    walk.inScoreOrder();
  } finally {
    walk.putBack();
  }
  return walk.decisions;
}

/** What it took to make room. */
type Made = Pick<Decision, "victims" | "moves">;

/** A running job, with what does not change during the plan; as a candidate it has the score of the last search. */
interface Runner extends Candidate {
  readonly leaf: number;
  readonly baseMd: number;
  /** The rules of the order let it be stopped; otherwise only who is due a place may have it stopped. */
  readonly ripe: boolean;
  scoreMd: number;
}

class Walk {
  readonly decisions: Decision[] = [];
  private readonly queue: OrderQueue;
  private readonly room: Room;
  private readonly nowMs: number;
  private readonly preempt: boolean;
  private readonly maxDecisions: number;
  private readonly movesCount: boolean;
  private readonly upTo: Slot | undefined;
  private readonly priorityWithinQueue: boolean;
  private readonly expectedEndMs: ((slot: Slot) => number) | undefined;
  private readonly guarantees: DecideOptions["guarantees"];
  private readonly onBlocked: ((slot: Slot) => void) | undefined;
  private reservation: StartReservation | undefined;
  private readonly shares: ShareDraft;
  /** Who may be stopped in this plan; found when first needed. */
  private runners: Map<Slot, Runner> | undefined;
  /** Who may be moved in this plan; found when first needed. */
  private movers: Map<Slot, Candidate> | undefined;
  /** Jobs taken out of their group's heap during the walk, to be put back. */
  private readonly taken: Slot[] = [];
  private laneMilli = 0;
  /** Leaves of groups by root; worked out when first needed. */
  private readonly leaves = new Map<number, ReadonlySet<number>>();

  constructor(from: {
    readonly queue: OrderQueue;
    readonly room: Room;
    readonly nowMs: number;
    readonly options: DecideOptions;
  }) {
    this.queue = from.queue;
    this.room = from.room;
    this.nowMs = from.nowMs;
    this.preempt = from.options.preempt ?? true;
    this.priorityWithinQueue = from.options.priorityWithinQueue ?? false;
    this.expectedEndMs = from.options.expectedEndMs;
    this.maxDecisions = from.options.maxDecisions ?? Number.POSITIVE_INFINITY;
    this.movesCount = from.options.movesCount ?? false;
    this.upTo = from.options.upTo;
    this.guarantees = from.options.guarantees;
    this.onBlocked = from.options.onBlocked;
    const { policy, tree } = from.queue;
    this.shares = new ShareDraft(policy, tree, from.room.capacityMilli, from.options.leafMd);
  }

  /** The oldest job past the aged threshold enters the lane, alone, while the lane has room (or is empty). */
  agedLane(): void {
    const { queue, room, nowMs } = this;
    const { jobs } = queue;
    const slot = queue.oldestAged(nowMs);
    if (slot < 0) return;
    for (const other of queue.running) {
      if (jobs.inLane(other)) this.laneMilli += jobs.gpusMilli[other]!;
    }
    const milli = jobs.gpusMilli[slot]!;
    const laneCap = (room.capacityMilli * queue.policy.agedShareMilli) / 1000;
    if (queue.policy.agedShareMilli === 0) return;
    if (this.laneMilli > 0 && this.laneMilli + milli > laneCap) return;
    if (this.shares.limitedBy(jobs.leaf[slot]!, milli) >= 0) return;
    const started = room.place(slot)
      ? []
      : this.preempt
        ? this.makeRoom(slot, Number.NEGATIVE_INFINITY, true)
        : undefined;
    if (started === undefined) {
      this.onBlocked?.(slot);
      return;
    }
    this.takeOut(slot);
    this.accept(slot, { victims: started, moves: [] }, true);
  }

  /** Groups in the order of the score of their first job; a group whose first job finds no room is done with. */
  inScoreOrder(): void {
    const { queue } = this;
    const { jobs, groups, policy } = queue;
    const firstOf = (at: number): Slot => groups[at]!.heap.peek();
    const order = new FirstGroups(
      { groups: groups.length, leaves: queue.tree.nodes.length },
      {
        leaf: (at) => groups[at]!.leaf,
        baseMd: (at) => queue.baseScoreMd(firstOf(at), this.nowMs),
        entitledMd: (at) => (this.entitled(firstOf(at)) ? entitledMd : 0),
        termMd: (leaf) => this.shares.termMd(leaf),
        submitMs: (at) => jobs.submitMs[firstOf(at)]!,
        tie: (at) => jobs.tie[firstOf(at)]!,
      },
    );
    const tiers = new Tiers(groups, this.priorityWithinQueue);
    const enter = (at: number): void => order.enter(at);
    const done = (at: number): void => tiers.done(at).forEach(enter);
    for (const at of tiers.first()) enter(at);
    let blocked = 0;
    const last = this.upTo === undefined ? -1 : jobs.group[this.upTo]!;
    if (this.decisions.some(({ slot }) => slot === this.upTo)) return;
    while (!order.isEmpty && blocked < policy.blockedGroups) {
      if (this.decisions.length >= this.maxDecisions) return;
      const { group: at, scoreMd: score } = order.take();
      const slot = firstOf(at);
      const milli = jobs.gpusMilli[slot]!;
      if (this.shares.limitedBy(groups[at]!.leaf, milli) >= 0) {
        if (at === last) return;
        done(at);
        continue;
      }
      const made = this.tryStart(slot, score);
      if (made === undefined) {
        if (at === last) return;
        blocked++;
        done(at);
        this.onBlocked?.(slot);
        if (this.expectedEndMs !== undefined) this.reservation ??= this.reserve(milli);
        continue;
      }
      this.takeOut(slot);
      this.accept(slot, made, false);
      if (slot === this.upTo) return;
      if (made.victims.length > 0) this.rescore(order, made.victims);
      if (groups[at]!.heap.size > 0) enter(at);
      else done(at);
    }
  }

  /** Places a job where there is room, or makes room; answers who must stop, or undefined where it cannot start. */
  private tryStart(slot: Slot, scoreMd: number): Made | undefined {
    const { room, reservation } = this;
    const milli = this.queue.jobs.gpusMilli[slot]!;
    const endMs = this.expectedEndMs?.(slot) ?? Number.POSITIVE_INFINITY;
    if (reservation !== undefined && !reservation.may(endMs, milli)) return undefined;
    if (milli <= room.freeMilli() && room.place(slot)) {
      reservation?.took(endMs, milli);
      return { victims: [], moves: [] };
    }
    if (!this.preempt || reservation !== undefined) return undefined;
    const moves = milli <= room.freeMilli() ? this.compact(slot) : undefined;
    if (moves !== undefined) return { victims: [], moves };
    const victims = this.makeRoom(slot, scoreMd, false);
    return victims === undefined ? undefined : { victims, moves: [] };
  }

  /** Reserves the start of a job that found no room, by the expected ends of what runs (or starts in this plan). */
  private reserve(needMilli: number): StartReservation {
    const { jobs, running } = this.queue;
    const victims = new Set(this.decisions.flatMap((decision) => decision.victims));
    const holding = [...running].filter((slot) => !victims.has(slot));
    for (const { slot } of this.decisions) holding.push(slot);
    return reserveStart({
      needMilli,
      freeMilli: this.room.freeMilli(),
      running: holding.map((slot) => ({
        endMs: this.expectedEndMs!(slot),
        gpusMilli: jobs.gpusMilli[slot]!,
      })),
    });
  }

  /** Puts the jobs that the walk took out back into their heaps: the queue is as it was. */
  putBack(): void {
    const { jobs, groups } = this.queue;
    for (const slot of this.taken) groups[jobs.group[slot]!]!.heap.push(slot);
  }

  private takeOut(slot: Slot): void {
    const { jobs, groups } = this.queue;
    groups[jobs.group[slot]!]!.heap.remove(slot);
    this.taken.push(slot);
  }

  private accept(slot: Slot, { victims, moves }: Made, lane: boolean): void {
    const { jobs } = this.queue;
    for (const mover of moves) this.runners?.delete(mover);
    for (const mover of moves) this.movers?.delete(mover);
    for (const victim of victims) this.movers?.delete(victim);
    for (const victim of victims) {
      this.shares.change(jobs.leaf[victim]!, -jobs.gpusMilli[victim]!);
      this.runners?.delete(victim);
    }
    this.shares.change(jobs.leaf[slot]!, jobs.gpusMilli[slot]!);
    this.decisions.push({ slot, victims, moves, lane });
  }

  /** Stops whoever must go for this job, on the draft; answers who, or undefined with the draft as it was. */
  private makeRoom(slot: Slot, scoreMd: number, aged: boolean): readonly Slot[] | undefined {
    const { room } = this;
    if (room.seeksVictims?.(slot) === false) return undefined;
    // Before it has its place: with that it may have all that it is owed.
    const entitled = this.entitled(slot);
    let candidates: readonly Candidate[] = this.candidates(slot, scoreMd, aged);
    for (let tries = maxTries; tries > 0 && candidates.length > 0; tries--) {
      const chosen = room.victims(slot, candidates);
      if (chosen === undefined) return undefined;
      for (const victim of chosen) room.release(victim);
      if (!room.place(slot)) return this.undo(chosen);
      const needed = chosen.filter((victim) => !room.restore(victim));
      const back = aged || entitled ? [] : this.turningBack(slot, needed);
      if (back.length === 0) return needed;
      room.release(slot);
      this.undo(needed);
      // Others may do: whoever loses least is not always one whose queue can spare it.
      candidates = candidates.filter((candidate) => !back.includes(candidate.slot));
    }
    return undefined;
  }

  /** Moves running jobs together so that the job fits, on the draft; answers who, or undefined and nothing has moved. */
  private compact(slot: Slot): readonly Slot[] | undefined {
    return this.room.compact?.(slot, () => [...this.allMovers().values()]);
  }

  private allMovers(): Map<Slot, Candidate> {
    if (this.movers !== undefined) return this.movers;
    const { queue, nowMs, movesCount } = this;
    const { jobs, policy } = queue;
    const movers = new Map<Slot, Candidate>();
    const gone = new Set(this.decisions.flatMap(({ victims }) => victims));
    for (const slot of queue.running) {
      const may = movesCount ? queue.mayBeVictim(slot, nowMs) : queue.mayBeMoved(slot, nowMs);
      if (gone.has(slot) || !may) continue;
      movers.set(slot, {
        slot,
        gpusMilli: jobs.gpusMilli[slot]!,
        lossGpuMs: jobs.lossAt(slot, nowMs, policy.restoreChargeMs),
        scoreMd: 0,
      });
    }
    this.movers = movers;
    return movers;
  }

  private undo(released: readonly Slot[]): undefined {
    for (const victim of released) {
      if (!this.room.restore(victim)) throw new Error(`job ${victim} lost its place in a trial`);
    }
    return undefined;
  }

  /** Who may be stopped for this job: by gap of scores, or because its queue has borrowed what the job's is owed. */
  private candidates(slot: Slot, scoreMd: number, aged: boolean): Candidate[] {
    const { queue, shares } = this;
    const leaf = queue.jobs.leaf[slot]!;
    const entitled = this.entitled(slot);
    const due = this.guarantees?.due?.(slot) === true;
    const plain = entitled ? scoreMd - entitledMd : scoreMd;
    const { policy } = queue;
    const freeMilli = this.room.freeMilli();
    // Where the pool knows no bound, what is free may lie on any node, and none of it counts.
    const needMilli = queue.jobs.gpusMilli[slot]! - (Number.isFinite(freeMilli) ? freeMilli : 0);
    const found: Candidate[] = [];
    for (const runner of this.allRunners().values()) {
      const runnerMd = runner.baseMd + shares.termMd(runner.leaf);
      const borrowed = entitled && runner.leaf !== leaf;
      if (!runner.ripe && !(due && borrowed)) continue;
      if (!aged && !borrowed && runnerMd - plain < policy.gapMd) continue;
      if (!due && shares.protects(runner.leaf, runner.gpusMilli, leaf)) continue;
      if (this.guarantees?.protects(runner.slot, slot) === true) continue;
      runner.scoreMd = runnerMd - excessMd(policy, runner.gpusMilli - needMilli);
      found.push(runner);
    }
    return found;
  }

  /**
   * The victims who could claim their place back, for the swap would change the shares so much. Refusing such swaps,
   * beside the minimum run time, is what makes preemption free of cycles.
   */
  private turningBack(slot: Slot, victims: readonly Slot[]): readonly Slot[] {
    const { queue, shares, nowMs } = this;
    const { jobs } = queue;
    const leaf = jobs.leaf[slot]!;
    const shift = (sign: 1 | -1): void => {
      for (const victim of victims) {
        shares.change(jobs.leaf[victim]!, -sign * jobs.gpusMilli[victim]!);
      }
      shares.change(leaf, sign * jobs.gpusMilli[slot]!);
    };
    shift(1);
    const scoreMd = queue.baseScoreMd(slot, nowMs) + shares.termMd(leaf);
    const back = victims.filter(
      (victim) => queue.baseScoreMd(victim, nowMs) + shares.termMd(jobs.leaf[victim]!) < scoreMd,
    );
    shift(-1);
    return back;
  }

  private allRunners(): Map<Slot, Runner> {
    if (this.runners !== undefined) return this.runners;
    const { queue, nowMs } = this;
    const { jobs, policy } = queue;
    const runners = new Map<Slot, Runner>();
    const anyDue = this.guarantees?.due !== undefined;
    // Who has moved in this plan stays where it is.
    const moved = new Set(this.decisions.flatMap(({ moves }) => moves));
    for (const slot of queue.running) {
      if (moved.has(slot)) continue;
      const ripe = queue.mayBeVictim(slot, nowMs);
      if (!ripe && !(anyDue && queue.canBeStopped(slot))) continue;
      runners.set(slot, {
        slot,
        ripe,
        leaf: jobs.leaf[slot]!,
        gpusMilli: jobs.gpusMilli[slot]!,
        baseMd: queue.baseScoreMd(slot, nowMs),
        lossGpuMs: jobs.lossAt(slot, nowMs, policy.restoreChargeMs),
        scoreMd: 0,
      });
    }
    this.runners = runners;
    return runners;
  }

  private entitled(slot: Slot): boolean {
    const { jobs } = this.queue;
    if (this.shares.entitled(jobs.leaf[slot]!, jobs.gpusMilli[slot]!)) return true;
    return this.guarantees?.entitled(slot) === true;
  }

  /** After a stop the tasks of the victims' queues (and of those beside them) look smaller: they move forward. */
  private rescore(order: FirstGroups, victims: readonly Slot[]): void {
    const { queue } = this;
    const roots = new Set(victims.map((slot) => queue.tree.rootOf(queue.jobs.leaf[slot]!)));
    const anyEntitled = this.shares.hasGuarantees || this.guarantees !== undefined;
    for (const root of roots) {
      // Without guarantees a share moves all groups of a leaf by as much.
      if (anyEntitled) order.renew(queue.groupsUnder(root));
      else order.fell(this.leavesUnder(root));
    }
  }

  private leavesUnder(root: number): Iterable<number> {
    const { groups } = this.queue;
    let leaves = this.leaves.get(root);
    if (leaves === undefined) {
      leaves = new Set(this.queue.groupsUnder(root).map((at) => groups[at]!.leaf));
      this.leaves.set(root, leaves);
    }
    return leaves;
  }
}
