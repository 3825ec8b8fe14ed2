import { seededRandom } from "./openb/seeded.ts";
import type { SimJob } from "./queueing/job.ts";

/** A made-up load: Poisson arrivals, log-normal run times, mostly narrow gangs, tenants of unequal size. */
export interface SyntheticOptions {
  readonly count: number;
  readonly seed: number;
  /** Default 8. */
  readonly tenants?: number;
  /** Mean time between two arrivals, in milliseconds; default two minutes. */
  readonly meanGapMs?: number;
  /** Median run time in milliseconds; default fifteen minutes. */
  readonly medianMs?: number;
}

/** Widths and how often they come, in thousandths. */
const widths: readonly (readonly [gpus: number, milli: number])[] = [
  [1, 860],
  [2, 50],
  [4, 50],
  [8, 33],
  [16, 7],
];

/** Makes jobs by submit time; the same seed makes the same jobs. */
export function syntheticJobs(options: SyntheticOptions): readonly SimJob[] {
  const random = seededRandom(options.seed);
  const tenants = options.tenants ?? 8;
  const meanGapMs = options.meanGapMs ?? 120_000;
  const medianMs = options.medianMs ?? 900_000;
  let atMs = 0;
  return Array.from({ length: options.count }, () => {
    atMs += Math.ceil(-Math.log(1 - random()) * meanGapMs);
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const durationMs = Math.max(1_000, Math.round(medianMs * Math.exp(2 * normal)));
    // The square makes low-numbered tenants send most.
    const tenant = `tenant-${Math.floor(random() ** 2 * tenants)}`;
    return { submitMs: atMs, durationMs, gpus: drawWidth(random()), tenant };
  });
}

function drawWidth(uniform: number): number {
  let left = uniform * 1000;
  for (const [gpus, milli] of widths) {
    left -= milli;
    if (left < 0) return gpus;
  }
  return 1;
}
