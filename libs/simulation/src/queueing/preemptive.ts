import { byLoss } from "@fastgpu/scheduling/order/room";
import type { Candidate } from "@fastgpu/scheduling/order/room";
import type { QueuePolicy, World } from "./world.ts";

/** A preemptive baseline: who goes first, and when one job may stop another. */
interface PreemptiveOptions {
  /** Lower goes first; asked at each plan. */
  readonly key: (job: number) => number;
  /** Whether the first may stop the second, given their keys. */
  readonly mayStop: (key: number, runnerKey: number) => boolean;
  /** A victim has run at least this long since it started, in milliseconds. */
  readonly minRunMs: number;
  /** Preemptions that a job bears by now; Infinity: any number. */
  readonly allowance: (job: number) => number;
  /** The walk ends after so many jobs that found no room. */
  readonly blocked: number;
  readonly tickMs: number;
}

/** A walk in key order that stops running jobs as its options allow; each stop pays the restore. */
export function preemptiveQueue(world: World, options: PreemptiveOptions): QueuePolicy {
  const waiting = new Set<number>();
  /** Running jobs, and since when. */
  const running = new Map<number, number>();
  const stops = new Int32Array(world.jobs.length);
  const start = (job: number, nowMs: number): void => {
    waiting.delete(job);
    running.set(job, nowMs);
    world.began(job);
  };
  const candidates = (key: number, nowMs: number): Candidate[] => {
    const found: Candidate[] = [];
    for (const [job, sinceMs] of running) {
      if (nowMs - sinceMs < options.minRunMs) continue;
      if (stops[job]! + 1 > options.allowance(job)) continue;
      const runnerKey = options.key(job);
      if (!options.mayStop(key, runnerKey)) continue;
      const gpusMilli = world.jobs[job]!.gpus * 1000;
      found.push({ slot: job, gpusMilli, lossGpuMs: gpusMilli, scoreMd: runnerKey });
    }
    return found.toSorted(byLoss);
  };
  const makeRoom = (job: number, key: number, nowMs: number): boolean => {
    const allowed = candidates(key, nowMs);
    if (allowed.length === 0) return false;
    const chosen = world.pool.victims(job, allowed);
    if (chosen === undefined) return false;
    for (const victim of chosen) world.pool.release(victim);
    if (!world.pool.place(job)) {
      for (const victim of chosen) world.pool.restore(victim);
      return false;
    }
    for (const victim of chosen) {
      if (world.pool.restore(victim)) continue;
      running.delete(victim);
      stops[victim]!++;
      waiting.add(victim);
      world.stopped(victim);
    }
    return true;
  };
  return {
    tickMs: options.tickMs,
    arrive: (job) => {
      waiting.add(job);
    },
    end: (job) => {
      running.delete(job);
    },
    plan(nowMs) {
      const keys = new Map([...waiting].map((job) => [job, options.key(job)]));
      const order = [...keys].toSorted((a, b) => a[1] - b[1] || a[0] - b[0]);
      let blocked = 0;
      for (const [job, key] of order) {
        if (blocked >= options.blocked) return;
        if (world.pool.place(job) || makeRoom(job, key, nowMs)) start(job, nowMs);
        else blocked++;
      }
    },
  };
}
