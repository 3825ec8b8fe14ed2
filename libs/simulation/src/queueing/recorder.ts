import { jain } from "../fleet/statistics.ts";
import type { World } from "./world.ts";

/** The fleet at one time. */
export interface Sample {
  readonly atMs: number;
  /** Part of the GPUs that run jobs, 0 to 1. */
  readonly utilisation: number;
  readonly waitingJobs: number;
  readonly waitingGpus: number;
  /** GPUs that are free on nodes partly taken, as a part of all: what whole-node gangs cannot use. */
  readonly fragmentation: number;
  /** Jain's index of running : wanted GPUs over the tenants that want any; 1 = all alike. */
  readonly fairness: number;
}

const stepMs = 3_600_000;

/** Takes a sample an hour. */
export class Recorder {
  readonly samples: Sample[] = [];
  private nextMs: number;

  constructor(startMs: number) {
    this.nextMs = startMs;
  }

  observe(nowMs: number, world: World): void {
    if (nowMs < this.nextMs) return;
    this.nextMs = nowMs + stepMs;
    const { pool } = world;
    this.samples.push({
      atMs: nowMs,
      utilisation: 1 - pool.freeMilli() / pool.capacityMilli,
      waitingJobs: world.waiting,
      waitingGpus: world.waitingGpus,
      fragmentation: pool.strandedMilli() / pool.capacityMilli,
      fairness: fairness(world),
    });
  }
}

/** Of running over wanted GPUs, over the tenants that want any. */
function fairness(world: World): number {
  const satisfied: number[] = [];
  for (const { runningGpus, wantedGpus } of world.tenants.values()) {
    if (wantedGpus > 0) satisfied.push(Math.min(1, runningGpus / wantedGpus));
  }
  return jain(satisfied);
}
