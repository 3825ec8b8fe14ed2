import type { JobOutcome, SimJob } from "./job.ts";

/** Figures of one run. Hours unless said. */
export interface QueueSummary {
  readonly jobs: number;
  /** Mean time from submit to end. */
  readonly meanHours: number;
  readonly p99Hours: number;
  /** Longest time from submit to the first start: the "wait" of most papers on scheduling. */
  readonly longestToStartHours: number;
  /** Longest time from submit to end beyond the run time: all waits of a job together, with its restores. */
  readonly longestWaitHours: number;
  /** Worst over best tenant by mean bounded slowdown: max(1, (end − submit) / max(run time, 60 s)). */
  readonly tenantRatio: number;
  /** Mean time from submit to end of gangs of at least 8 GPUs. */
  readonly wideMeanHours: number;
  readonly preemptions: number;
  /** Jobs that waited longer than 168 hours. */
  readonly waitedOverWeek: number;
}

/** GPUs from which a gang is wide. */
export const wideGpus = 8;
/** A tenant with fewer jobs is left out of the ratio: the mean of three jobs says nothing. */
const leastTenantJobs = 20;
/** Run times below this count as this in a slowdown ("bounded slowdown"; Feitelson and Rudolph, 1998). */
const slowdownBoundMs = 60_000;
const hourMs = 3_600_000;

/** Mean bounded slowdown by tenant, of tenants with at least 20 jobs (of all where none has so many). */
export function tenantSlowdowns(
  jobs: readonly SimJob[],
  outcomes: readonly (JobOutcome | undefined)[],
): ReadonlyMap<string, number> {
  const byTenant = new Map<string, number[]>();
  for (const [index, job] of jobs.entries()) {
    const outcome = outcomes[index];
    if (outcome === undefined) continue;
    const took = outcome.endMs - job.submitMs;
    const slowdown = Math.max(1, took / Math.max(job.durationMs, slowdownBoundMs));
    const list = byTenant.get(job.tenant);
    if (list === undefined) byTenant.set(job.tenant, [slowdown]);
    else list.push(slowdown);
  }
  const counted = [...byTenant].filter(([, list]) => list.length >= leastTenantJobs);
  const chosen = counted.length > 0 ? counted : [...byTenant];
  return new Map(chosen.map(([tenant, list]) => [tenant, mean(list)]));
}

/** Sums a run up. Every job must have ended. */
export function summarize(
  jobs: readonly SimJob[],
  outcomes: readonly (JobOutcome | undefined)[],
): QueueSummary {
  const took: number[] = [];
  const wide: number[] = [];
  let longest = 0;
  let toStartMs = 0;
  let preemptions = 0;
  let overWeek = 0;
  for (const [index, job] of jobs.entries()) {
    const outcome = outcomes[index];
    if (outcome === undefined) throw new Error(`job ${index} has not ended`);
    const hours = (outcome.endMs - job.submitMs) / hourMs;
    const waited = hours - job.durationMs / hourMs;
    took.push(hours);
    if (job.gpus >= wideGpus) wide.push(hours);
    longest = Math.max(longest, waited);
    toStartMs = Math.max(toStartMs, outcome.firstStartMs - job.submitMs);
    if (waited > 168) overWeek++;
    preemptions += outcome.preemptions;
  }
  const sorted = took.toSorted((a, b) => a - b);
  const slowdowns = [...tenantSlowdowns(jobs, outcomes).values()];
  return {
    jobs: jobs.length,
    meanHours: mean(took),
    p99Hours: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    longestToStartHours: toStartMs / hourMs,
    longestWaitHours: longest,
    tenantRatio: Math.max(...slowdowns) / Math.min(...slowdowns),
    wideMeanHours: mean(wide),
    preemptions,
    waitedOverWeek: overWeek,
  };
}

function mean(values: readonly number[]): number {
  if (values.length === 0) return 0;
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
