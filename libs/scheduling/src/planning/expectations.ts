import { milliOfDemand } from "../gpu-part.ts";
import { runKinds } from "../order/run-times.ts";
import type { PlanLease, PlanRunTimes, PlanTask } from "../plan.ts";

/** When something that starts now has ended, in milliseconds from now; Infinity: not known. */
export interface Expected {
  /** As likely as not. */
  readonly p50Ms: number;
  /** Nine times in ten. */
  readonly p90Ms: number;
}

const unknown: Expected = {
  p50Ms: Number.POSITIVE_INFINITY,
  p90Ms: Number.POSITIVE_INFINITY,
};

/**
 * What is expected of run times, by the closest kind that is known ("Backfilling using system-generated predictions
 * rather than user runtime estimates", Tsafrir, Etsion, Feitelson, TPDS 2007: users' limits are far too long, their own
 * last runs are not). Elements of arrays are not predicted.
 */
export class Expectations {
  private readonly byKind: ReadonlyMap<string, PlanRunTimes>;
  /** Tasks of one class share the object of their needs: each is looked up once for each owner. */
  private readonly byDemand = new WeakMap<PlanTask["demand"], Map<string, Map<string, Expected>>>();
  private readonly byLease = new WeakMap<PlanLease, { gpus: number; expected: Expected }>();

  constructor(runTimes: readonly PlanRunTimes[]) {
    this.byKind = new Map(runTimes.map((each) => [each.id, each]));
  }

  /** How long a task that waits is expected to run once it starts. */
  run({ demand, project, user, replicas, array }: PlanTask): Expected {
    if (this.byKind.size === 0 || array !== undefined) return unknown;
    let owners = this.byDemand.get(demand);
    if (owners === undefined) this.byDemand.set(demand, (owners = new Map()));
    let users = owners.get(project);
    if (users === undefined) owners.set(project, (users = new Map()));
    // Gangs are rare: their key is put together, a plain task's is the user.
    const key = replicas === 1 ? user : `${user}/${replicas}`;
    let expected = users.get(key);
    if (expected === undefined) {
      const { cpuMillis, memoryMib } = demand;
      const gpus = (milliOfDemand(demand) * replicas) / 1000;
      const kind = { project, user, gpus, cpuMillis, memoryMib };
      users.set(key, (expected = this.of(kind)));
    }
    return expected;
  }

  /**
   * When an attempt of so many GPUs (of parts their sum) that runs is expected to end: half of its like have by then, of one that has run
   * longer nine in ten; one that outlasts them all is taken to run twice as long, again and again. It stays the same
   * until that time comes. Infinity: not known.
   */
  end(lease: PlanLease, of: { gpus: number; now: number }): number {
    if (this.byKind.size === 0 || lease.turns !== undefined) return Number.POSITIVE_INFINITY;
    let known = this.byLease.get(lease);
    if (known?.gpus !== of.gpus) {
      const { project, user, cpuMillis, memoryMib } = lease;
      const { gpus } = of;
      known = { gpus, expected: this.of({ project, user, gpus, cpuMillis, memoryMib }) };
      this.byLease.set(lease, known);
    }
    const { p50Ms, p90Ms } = known.expected;
    if (p50Ms === Number.POSITIVE_INFINITY) return p50Ms;
    const sinceMs = lease.runningSinceMs ?? lease.heldSinceMs;
    if (sinceMs + p50Ms > of.now) return sinceMs + p50Ms;
    let wholeMs = Math.max(1, p90Ms);
    while (sinceMs + wholeMs <= of.now) wholeMs *= 2;
    return sinceMs + wholeMs;
  }

  private of(kind: Parameters<typeof runKinds>[0]): Expected {
    for (const key of runKinds(kind)) {
      const known = this.byKind.get(key);
      if (known !== undefined) return known;
    }
    return unknown;
  }
}
