import type { GpuId } from "@fastgpu/domain/ids";
import type { Slot } from "../order/jobs.ts";
import type { Candidate } from "../order/room.ts";
import type { MemberPlace } from "../plan.ts";
import { shapeOf, takesMoves } from "./consolidate.ts";
import type { Attempt } from "./crew.ts";
import type { Ground, Taken } from "./ground.ts";
import type { Heads } from "./heads.ts";

/** What a room does for moves. */
interface Mover {
  /** The attempt of a slot. */
  attempt(slot: Slot): Attempt;
  /** Attempts that end in this plan's draft. */
  readonly ended: ReadonlySet<Attempt>;
  /** Ends an attempt on the draft; what it holds still counts for its queue. */
  lift(slot: Slot): void;
  /** Puts it back to where it runs; false where that is taken. */
  putBack(slot: Slot): boolean;
  /** Places the job that others move for. */
  place(slot: Slot): boolean;
  /** Takes it off again. */
  release(slot: Slot): void;
  /** GPUs that an attempt must not have until an end, as they are kept for a reservation. */
  offLimits(slot: Slot, endMs: number): readonly GpuId[];
  /** Notes that an attempt holds something until a time, or forgets it. */
  note(slot: Slot, held: { readonly taken: Taken; readonly endMs: number }, starts: boolean): void;
}

/**
 * Moves that let a job in: running attempts are lifted, the job takes its place, and each of them gets GPUs that are free
 * in truth, outside of what heads of the line are to start on. On the draft, step by step, so that all works out together.
 */
export class Moves {
  private readonly ground: Ground;
  private readonly heads: Heads;
  private readonly now: number;
  private readonly mover: Mover;
  /** Where attempts go on. */
  private readonly to = new Map<Slot, Taken>();

  constructor(of: { ground: Ground; heads: Heads; now: number; mover: Mover }) {
    this.ground = of.ground;
    this.heads = of.heads;
    this.now = of.now;
    this.mover = of.mover;
  }

  /** Where an attempt goes on; undefined: it is not moved. */
  placeOf(slot: Slot): MemberPlace | undefined {
    const taken = this.to.get(slot);
    return taken === undefined ? undefined : this.ground.toMembers([taken])[0];
  }

  /** Those who hold whole GPUs of one node, no more than are free together on another one. */
  movable(candidates: readonly Candidate[]): Candidate[] {
    const most = this.mostFree();
    return candidates.filter(({ slot }) => {
      const { members, lease } = this.mover.attempt(slot);
      const [member] = members;
      if (members.length !== 1 || member === undefined || lease.part !== undefined) return false;
      const { entry, held } = member;
      if (entry.shared || held.gpus.length === 0) return false;
      const free = entry.index === most.index ? most.next : most.count;
      return held.gpus.length === lease.gpus.length && held.gpus.length <= free;
    });
  }

  /** The greatest number of free GPUs on a node that takes work, and on all others. */
  private mostFree(): { index: number; count: number; next: number } {
    let [index, count, next] = [-1, 0, 0];
    for (const { index: at, node, held } of this.ground.fleet.inOrder) {
      if (!node.acceptsWork || held === undefined) continue;
      const free = this.ground.freeCount(at);
      if (free > count) [index, count, next] = [at, free, count];
      else next = Math.max(next, free);
    }
    return { index, count, next };
  }

  /**
   * Places a job where these have moved away. Answers who has; undefined where there is no room for the job all the same, or
   * the one who finds no place. Then nothing has changed.
   */
  tryFor(
    slot: Slot,
    movers: readonly Slot[],
  ): { readonly moved: readonly Slot[] } | { readonly stuck: Slot } | undefined {
    const { mover } = this;
    for (const each of movers) mover.lift(each);
    if (!mover.place(slot)) {
      this.putAllBack(movers);
      return undefined;
    }
    const widest = movers
      .filter((each) => !mover.putBack(each))
      .toSorted((a, b) => mover.attempt(b).gpuMilli - mover.attempt(a).gpuMilli || a - b);
    for (const [at, each] of widest.entries()) {
      if (this.settle(each)) continue;
      for (const settled of widest.slice(0, at)) this.unsettle(settled);
      mover.release(slot);
      this.putAllBack(widest);
      return { stuck: each };
    }
    return { moved: widest };
  }

  private putAllBack(slots: readonly Slot[]): void {
    for (const slot of slots) {
      if (!this.mover.putBack(slot)) throw new Error(`attempt ${slot} lost its place in a trial`);
    }
  }

  /** Gives an attempt a place of its own elsewhere. */
  private settle(slot: Slot): boolean {
    const { ground, heads, mover } = this;
    const attempt = mover.attempt(slot);
    const { lease } = attempt;
    const { entry } = attempt.members[0]!;
    // It begins anew there, with all of its run time.
    const endMs = this.now + (lease.endsByMs - lease.heldSinceMs);
    heads.hide({ endMs, likelyEndMs: endMs });
    const leaving = new Set(
      [...mover.ended].flatMap(({ members }) => members.map((member) => member.entry.index)),
    );
    const barred = mover.offLimits(slot, endMs).flatMap((id) => ground.fillGpu(id) ?? []);
    const taken = ground.placeOn(shapeOf(attempt, ground.fleet), (index) => {
      const other = ground.fleet.at(index);
      return !leaving.has(index) && !other.shared && takesMoves(other, entry);
    });
    for (const each of barred) ground.give(each);
    if (taken === undefined) return false;
    if (!ground.isThere([taken], lease.task)) {
      ground.give(taken);
      return false;
    }
    ground.note([taken], 1);
    mover.note(slot, { taken, endMs }, true);
    this.to.set(slot, taken);
    return true;
  }

  private unsettle(slot: Slot): void {
    const taken = this.to.get(slot)!;
    this.to.delete(slot);
    this.mover.note(slot, { taken, endMs: 0 }, false);
    this.ground.note([taken], -1);
    this.ground.give(taken);
  }
}
