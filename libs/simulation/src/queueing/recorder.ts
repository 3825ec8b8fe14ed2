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

/** Jain, Chiu and Hawe, "A quantitative measure of fairness", DEC-TR-301, 1984. */
function fairness(world: World): number {
  const satisfied: number[] = [];
  for (const { runningGpus, wantedGpus } of world.tenants.values()) {
    if (wantedGpus > 0) satisfied.push(Math.min(1, runningGpus / wantedGpus));
  }
  const sum = satisfied.reduce((total, value) => total + value, 0);
  const squares = satisfied.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? 1 : (sum * sum) / (satisfied.length * squares);
}
