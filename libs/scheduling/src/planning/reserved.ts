import type { AttemptId, GpuId, TaskId } from "@fastgpu/domain/ids";
import { milliOfDemand, milliOfPart } from "../gpu-part.ts";
import { allowance } from "../order/score.ts";
import type { PlanLease, PlanNode, PlanReservation, PlanState, PlanTask } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { Attempt } from "./crew.ts";
import { endIfStarted } from "./ends.ts";
import { Models, type HeldGpu, type Hold } from "./estate.ts";
import { Moment, type Want } from "./moment.ts";
import { isBundled, Places } from "./places.ts";
import type { Owner } from "./queues.ts";

/** Who holds what for how long. */
export interface Change extends Hold {
  /** When it ends at the latest; what runs and was not told to stop: after now. */
  readonly endMs: number;
  /** Of which GPUs, where that is known. */
  readonly gpus?: readonly HeldGpu[] | undefined;
}

/**
 * What reservations leave to each task. From the beginning of one to its end, as many GPUs as it says and its owner's
 * tasks do not hold stay free of whatever cannot be stopped; what can be may have them on loan, for when the owner has
 * work it gives way. Only GPUs are kept, by count.
 */
export class Reserved {
  /** Whether anything is reserved for now. */
  readonly begun: boolean;
  /** Whether any places are kept. */
  readonly keepsPlaces: boolean;
  private readonly reservations: readonly PlanReservation[];
  private readonly moments: readonly Moment[];
  /** Of reservations that ask for several GPUs on one node each; undefined: there are none. */
  private readonly places: Places | undefined;
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
    this.keepsPlaces = this.reservations.some(isBundled);
    const held = this.reservations.length === 0 ? new Map() : this.heldBy(of.attempts);
    const { reservations } = this;
    this.places = this.keepsPlaces
      ? new Places({ nodes: state.nodes, reservations, held, waits: this.waiting(state), now })
      : undefined;
    const counted = this.places?.counted() ?? reservations;
    const times = new Set(reservations.map(({ startMs }) => Math.max(now, startMs)));
    this.moments = [...times].map((atMs) => {
      const then = counted.filter(({ startMs, endMs }) => startMs <= atMs && atMs < endMs);
      return new Moment(atMs, { reservations: then, models });
    });
    this.begun = reservations.some(({ startMs }) => startMs <= now);
    if (this.moments.length === 0) return;
    for (const node of state.nodes) this.countIdle(node, held);
    for (const change of held.values()) {
      for (const moment of this.moments) {
        if (change.endMs > moment.atMs) moment.own(this.besidePlaces(change, moment), 1);
      }
    }
  }

  /** What waiting tasks would hold if they started now. */
  private waiting({ tasks }: PlanState) {
    const { now, policy } = this;
    const byId = new Map(tasks.map((task) => [task.id, task]));
    return (id: TaskId) => {
      const task = byId.get(id);
      if (task === undefined) return undefined;
      const gpuMilli = milliOfDemand(task.demand) * task.replicas;
      const givesWay = mayBorrow(task, { policy, gpuMilli });
      return { owner: task, endMs: endIfStarted(task, now), givesWay };
    };
  }

  private heldBy(attempts: readonly Attempt[]): Map<AttemptId, Change> {
    return new Map(attempts.map((attempt) => [attempt.id, this.changeOf(attempt)]));
  }

  /** Whether there are any that are not over. */
  get any(): boolean {
    return this.reservations.length > 0;
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
        for (const moment of this.openAt(id)) {
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
      const open = this.openAt(id);
      if (left > 0) for (const moment of open) moment.supply(model, left);
      for (const lease of held) {
        const by = changes.get(lease.attempt)!;
        const milli = milliOfPart(lease.part);
        for (const moment of open) {
          if (by.endMs <= moment.atMs || moment.isIdle(by)) moment.supply(model, milli);
        }
      }
    }
  }

  /** Moments at which a GPU is no place of a reservation: there it counts. */
  private openAt(id: GpuId): readonly Moment[] {
    const { places, moments } = this;
    if (places === undefined) return moments;
    return moments.filter(({ atMs }) => places.modelAt(id, atMs) === undefined);
  }

  /** What of a change counts at a moment: not what lies on places, whose GPUs are not counted either. */
  private besidePlaces(change: Change, { atMs }: Moment): Change {
    if (this.places === undefined || change.gpus === undefined) return change;
    const counts = new Map(change.counts);
    for (const { id, milli } of change.gpus) {
      const model = this.places.modelAt(id, atMs);
      if (model !== undefined) counts.set(model, (counts.get(model) ?? 0) - milli);
    }
    const shares = change.shares?.filter(
      ({ gpu }) => this.places?.modelAt(gpu, atMs) === undefined,
    );
    return { ...change, counts, shares };
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
    return {
      owner: lease,
      counts,
      endMs,
      givesWay,
      shares: sharesOf(attempt),
      gpus: this.keepsPlaces ? gpusOf(attempt) : undefined,
    };
  }

  /** Takes GPUs in the course of the plan (`sign` 1), or gives them back (-1). */
  change(change: Change, sign: 1 | -1): void {
    for (const moment of this.moments) {
      if (change.endMs > moment.atMs) moment.take(this.besidePlaces(change, moment), sign);
    }
    this.places?.change(change, sign);
  }

  /** The reservation of others that GPUs of a model, held until an end, would cut into. */
  cutInto(of: Want & { readonly endMs: number }): PlanReservation | undefined {
    const found = this.firstCut(of);
    // On places of its own it cuts into nothing.
    if (found !== undefined && this.places?.roomOn(of) !== undefined) return undefined;
    if (found === undefined || of.wholeMilli === undefined) return found;
    // Beside others' shares it breaks no whole GPU.
    const beside = this.brokenUntil(of.endMs).some(({ model }) => model === of.model);
    return beside ? undefined : found;
  }

  /** GPUs of its owner's places to which a task has to keep, as any other of the model would cut into a reservation. */
  keepsTo(of: Want & { readonly endMs: number }): ReadonlySet<GpuId> | undefined {
    const own = this.places?.roomOn(of);
    return own === undefined || this.firstCut(of) === undefined ? undefined : own;
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
      // As it was made, not as a part of it is counted.
      if (found !== undefined) return this.reservations.find(({ id }) => id === found.id) ?? found;
    }
    return undefined;
  }

  /** GPUs that somebody must not get, as they are kept for a reservation of several on one node each. */
  offLimits(of: Pick<Change, "owner" | "endMs" | "givesWay">): readonly GpuId[] {
    return this.places?.offLimits(of) ?? none;
  }

  /** The first reservation that such GPUs are kept for. */
  placesOf(of: Pick<Change, "owner" | "endMs" | "givesWay">): PlanReservation | undefined {
    return this.places?.firstOf(of);
  }

  /** The moment that is now, where any reservation that is counted has begun. */
  private present(): Moment | undefined {
    return this.moments[0]?.atMs === this.now ? this.moments[0] : undefined;
  }

  /** GPUs on which alone others have to give way to a task: it is due no others. */
  dueOn(of: Omit<Want, "givesWay">): ReadonlySet<GpuId> | undefined {
    return this.present()?.isDue(of) === true ? undefined : this.places?.dueOn(of);
  }

  /** Whether a task is due so many GPUs of a model now. */
  isDue(of: Omit<Want, "givesWay">): boolean {
    return this.present()?.isDue(of) === true || this.places?.dueOn(of) !== undefined;
  }

  /**
   * Whether an attempt is within what is reserved for its owner now. Where that is also a task's owner, which is not due
   * anything, the order alone decides between the two.
   */
  protects(attempt: Attempt, of: { task: Owner; due: boolean }): boolean {
    if (!this.begun) return false;
    const unlessOf = of.due ? undefined : of.task;
    const gpus = attempt.members.flatMap(({ held }) => held.lease.gpus);
    if (this.places?.counts(attempt.lease, gpus, unlessOf) === true) return true;
    return this.present()?.counts(this.changeOf(attempt), unlessOf) === true;
  }
}

const none: readonly GpuId[] = [];

const gpusOf = ({ members }: Attempt): HeldGpu[] =>
  members.flatMap(({ held }) =>
    held.lease.gpus.map((id) => ({ id, milli: milliOfPart(held.lease.part) })),
  );

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
