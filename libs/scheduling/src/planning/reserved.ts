import type { AttemptId, GpuId } from "@fastgpu/domain/ids";
import { milliOfPart } from "../gpu-part.ts";
import { allowance } from "../order/score.ts";
import type { PlanLease, PlanNode, PlanReservation, PlanState, PlanTask } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { Attempt } from "./crew.ts";
import { Models, type Hold } from "./estate.ts";
import { Moment, type Want } from "./moment.ts";
import type { Owner } from "./queues.ts";

/** Who holds what for how long. */
export interface Change extends Hold {
  /** When it ends at the latest; what runs and was not told to stop: after now. */
  readonly endMs: number;
}

/**
 * What reservations leave to each task. From the beginning of one to its end, as many GPUs as it says and its owner's
 * tasks do not hold stay free of whatever cannot be stopped; what can be may have them on loan, for when the owner has
 * work it gives way. Only GPUs are kept, by count.
 */
export class Reserved {
  /** Whether anything is reserved for now. */
  readonly begun: boolean;
  private readonly reservations: readonly PlanReservation[];
  private readonly moments: readonly Moment[];
  private readonly policy: SchedulingPolicy;
  private readonly now: number;

  constructor(
    state: PlanState,
    of: {
      attempts: readonly Attempt[];
      models: readonly string[];
      policy: SchedulingPolicy;
      now: number;
    },
  ) {
    const { now, policy } = of;
    this.now = now;
    this.policy = policy;
    this.reservations = state.reservations
      .filter(({ endMs, gpus }) => endMs > now && gpus > 0)
      .toSorted((a, b) => a.startMs - b.startMs || (a.id < b.id ? -1 : 1));
    // GPUs that a worker no longer lists have no model.
    const models = new Models([...of.models, ""]);
    const times = new Set(this.reservations.map(({ startMs }) => Math.max(now, startMs)));
    this.moments = [...times].map((atMs) => {
      const then = this.reservations.filter(
        ({ startMs, endMs }) => startMs <= atMs && atMs < endMs,
      );
      return new Moment(atMs, { reservations: then, models });
    });
    this.begun = this.moments[0]?.atMs === now;
    if (this.moments.length === 0) return;
    const held = new Map(of.attempts.map((attempt) => [attempt.id, this.changeOf(attempt)]));
    for (const node of state.nodes) this.countIdle(node, held);
    for (const change of held.values()) {
      for (const moment of this.moments) if (change.endMs > moment.atMs) moment.own(change, 1);
    }
  }

  /** Whether there are any that are not over. */
  get any(): boolean {
    return this.moments.length > 0;
  }

  /** What has ended by then, or gives way, is in nobody's way. */
  private countIdle(node: PlanNode, changes: ReadonlyMap<AttemptId, Change>): void {
    if (!node.acceptsWork) return;
    const leases = new Map<GpuId, PlanLease[]>();
    for (const lease of node.running) {
      for (const id of lease.gpus) {
        const known = leases.get(id);
        if (known === undefined) leases.set(id, [lease]);
        else known.push(lease);
      }
    }
    for (const { id, model, free } of node.gpus) {
      const held = leases.get(id) ?? [];
      if (held.some(({ part }) => part?.kind === "share")) {
        const total = free ? 1000 : partsOf(held);
        for (const moment of this.moments) {
          const past = held.flatMap((lease) => {
            const by = changes.get(lease.attempt)!;
            const stays = by.endMs > moment.atMs && !moment.isIdle(by);
            return stays ? [{ owner: lease, milli: milliOfPart(lease.part) }] : [];
          });
          moment.supplyShared(id, { model, total, held: past });
        }
        continue;
      }
      const left = free ? 1000 - partsOf(held) : 0;
      if (left > 0) for (const moment of this.moments) moment.supply(model, left);
      for (const lease of held) {
        const by = changes.get(lease.attempt)!;
        const milli = milliOfPart(lease.part);
        for (const moment of this.moments) {
          if (by.endMs <= moment.atMs || moment.isIdle(by)) moment.supply(model, milli);
        }
      }
    }
  }

  /** What a running attempt holds, and for how long. */
  changeOf(attempt: Attempt): Change {
    const { lease, counts, gpuMilli } = attempt;
    const { now } = this;
    const { stopping, endsByMs, runningSinceMs = now } = lease;
    // What is overdue may end at any moment, but has not.
    const endMs = stopping ? now : Math.max(now + 1, endsByMs);
    const { policy } = this;
    const givesWay = mayBorrow(lease, { policy, gpuMilli, ranMs: now - runningSinceMs });
    return { owner: lease, counts, endMs, givesWay, shares: sharesOf(attempt) };
  }

  /** Takes GPUs in the course of the plan (`sign` 1), or gives them back (-1). */
  change(change: Change, sign: 1 | -1): void {
    for (const moment of this.moments) if (change.endMs > moment.atMs) moment.take(change, sign);
  }

  /** The reservation of others that GPUs of a model, held until an end, would cut into. */
  cutInto(of: Want & { readonly endMs: number }): PlanReservation | undefined {
    const found = this.firstCut(of);
    if (found === undefined || of.wholeMilli === undefined) return found;
    // Beside others' shares it breaks no whole GPU.
    const beside = this.brokenUntil(of.endMs).some(({ model }) => model === of.model);
    return beside ? undefined : found;
  }

  /** GPUs on which shares have to be, beside others': on any other they would cut into a reservation; undefined: they may be on any. */
  sharesGoTo(of: Want & { readonly endMs: number }): ReadonlySet<GpuId> | undefined {
    if (of.wholeMilli === undefined || this.firstCut(of) === undefined) return undefined;
    return new Set(this.brokenUntil(of.endMs).map(({ id }) => id));
  }

  /** GPUs that are broken at all moments before an end. */
  private brokenUntil(endMs: number): { readonly id: GpuId; readonly model: string }[] {
    const [first, ...others] = this.moments.filter(({ atMs }) => atMs < endMs);
    return (first?.broken() ?? []).filter(({ id }) => others.every((each) => each.isBroken(id)));
  }

  private firstCut(of: Want & { readonly endMs: number }): PlanReservation | undefined {
    for (const moment of this.moments) {
      const found = of.endMs > moment.atMs ? moment.cutInto(of) : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** Whether a task is due so many GPUs of a model now. */
  isDue(of: Omit<Want, "givesWay">): boolean {
    return this.begun && this.moments[0]!.isDue(of);
  }

  /**
   * Whether an attempt is within what is reserved for its owner now. Where that is also a task's owner, which is not due
   * anything, the order alone decides between the two.
   */
  protects(attempt: Attempt, of: { task: Owner; due: boolean }): boolean {
    if (!this.begun) return false;
    return this.moments[0]!.counts(this.changeOf(attempt), of.due ? undefined : of.task);
  }
}

/**
 * Whether a task, or what runs of it since a while, may have GPUs on loan: it can be stopped, and what it has run by now
 * makes up for one stop more.
 */
export function mayBorrow(
  of: Pick<PlanTask, "preemptible" | "preemptions" | "attainedGpuMs">,
  { policy, gpuMilli, ranMs = 0 }: { policy: SchedulingPolicy; gpuMilli: number; ranMs?: number },
): boolean {
  const { order, preemption } = policy;
  if (!of.preemptible || !preemption.enabled || gpuMilli === 0) return false;
  return of.preemptions + 1 <= allowance(order, ranMs + (1000 * of.attainedGpuMs) / gpuMilli);
}

/** Which GPUs an attempt has shares of; undefined: it has none, or nothing is known of its places. */
function sharesOf({ lease: { part }, members }: Attempt): Hold["shares"] {
  if (part?.kind !== "share" || members.length === 0) return undefined;
  return members.flatMap(({ entry, held }) =>
    held.gpus.map((at) => {
      const { id: gpu, model } = entry.node.gpus[at]!;
      return { gpu, model, milli: milliOfPart(held.lease.part) };
    }),
  );
}

/** Thousandths of one GPU that leases hold. */
const partsOf = (leases: readonly PlanLease[]): number =>
  leases.reduce((sum, lease) => sum + milliOfPart(lease.part), 0);
