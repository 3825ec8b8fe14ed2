import type { SimJob } from "./job.ts";
import type { NamedPolicy } from "./policies.ts";
import { FlatPool, NodePool } from "./pool.ts";
import type { Pool } from "./pool.ts";
import { Recorder } from "./recorder.ts";
import type { Sample } from "./recorder.ts";
import { summarize } from "./summary.ts";
import type { QueueSummary } from "./summary.ts";
import { World } from "./world.ts";

/** What a trace is replayed on. */
export interface ReplayOptions {
  readonly jobs: readonly SimJob[];
  readonly gpus: number;
  /** GPUs of each node; 0: a flat pool. */
  readonly gpusPerNode: number;
  readonly policy: NamedPolicy;
  /** Default: 2 minutes. */
  readonly restoreChargeMs?: number;
}

/** A replay's figures, and the fleet over time. */
export interface ReplayResult {
  readonly summary: QueueSummary;
  readonly samples: readonly Sample[];
  /** GPU-hours spent on restores. */
  readonly chargedGpuHours: number;
}

/** Jobs that no pool of this size could ever run. */
export function tooWide(jobs: readonly SimJob[], gpus: number): readonly SimJob[] {
  return jobs.filter((job) => job.gpus > gpus);
}

/** Replays a trace under a policy until every job has ended. */
export function replay(options: ReplayOptions): ReplayResult {
  const { jobs, gpus, gpusPerNode } = options;
  const gpusOf = (job: number): number => jobs[job]!.gpus;
  const pool: Pool =
    gpusPerNode > 0 ? new NodePool({ gpus, gpusPerNode, gpusOf }) : new FlatPool(gpus, gpusOf);
  const recorder = new Recorder(jobs[0]?.submitMs ?? 0);
  const world: World = new World({
    jobs,
    pool,
    restoreChargeMs: options.restoreChargeMs ?? 120_000,
    observe: (nowMs) => recorder.observe(nowMs, world),
  });
  world.run(options.policy.create(world));
  return {
    summary: summarize(jobs, world.outcomes),
    samples: recorder.samples,
    chargedGpuHours: world.chargedGpuMs / 3_600_000,
  };
}
