import {
  defaultSchedulingPolicy,
  type SchedulingPolicy,
} from "@fastgpu/scheduling/scheduling-policy";
import type { SimJob } from "../queueing/job.ts";
import type { Sample } from "../queueing/recorder.ts";
import type { ReplayResult } from "../queueing/replay.ts";
import { summarize } from "../queueing/summary.ts";
import { parseInventory } from "./inventory.ts";
import { phillyWorkload, trainingTrace } from "./readers.ts";
import type { FleetReport } from "./report.ts";
import type { FleetSettings } from "./settings.ts";
import { prepare } from "./simulate.ts";

/**
 * Replays a trace under the service's own planner instead of a queue policy, on a simulated fleet of equal nodes. All
 * jobs can be stopped and go on from a checkpoint; a start from one costs 2 minutes, leases and stops take their time,
 * and plans are some way apart ({@link FleetSettings}). Throws RangeError where the GPUs are no whole nodes, and
 * BrokenPromise where the planner breaks one of its promises.
 */
export function replayOnFleet(of: {
  readonly jobs: readonly SimJob[];
  readonly gpus: number;
  readonly gpusPerNode: number;
  /** Default: the shipped policy. */
  readonly policy?: SchedulingPolicy;
  readonly settings?: Partial<FleetSettings>;
}): ReplayResult {
  const { jobs, gpus, gpusPerNode, policy = defaultSchedulingPolicy } = of;
  if (gpusPerNode < 1 || gpus % gpusPerNode !== 0) {
    throw new RangeError(`${gpus} GPUs are no whole number of nodes`);
  }
  const inventory = parseInventory(`${gpusPerNode}x GPU x ${gpus / gpusPerNode} nodes`);
  if (inventory.kind === "bad") throw new RangeError(inventory.problem);
  const { nodes } = inventory;
  const workload = phillyWorkload("jobs", jobs, { ...trainingTrace, gpusPerNode });
  const scenario = { nodes, workload, seed: 1, settings: of.settings };
  const run = prepare(scenario, { name: "service", policy });
  while (run.advance(100_000));
  const report = run.report();
  return {
    // Jobs come by submit time, and so do the workload's tasks.
    summary: summarize(jobs, run.outcomes()),
    samples: samplesOf(report),
    chargedGpuHours: report.gpuHours.restoring,
  };
}

const samplesOf = ({ series }: FleetReport): readonly Sample[] =>
  series.capacity.map((capacity, bucket) => ({
    atMs: series.startMs + bucket * series.bucketMs,
    utilisation: capacity > 0 ? series.allocated[bucket]! / capacity : 0,
    waitingJobs: series.waitingTasks[bucket]!,
    waitingGpus: series.waitingGpus[bucket]!,
    fragmentation: series.fragmentation[bucket]!,
    fairness: series.fairness[bucket]!,
  }));
