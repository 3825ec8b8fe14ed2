import type { GpuPart } from "@fastgpu/scheduling/plan";
import type { OpenbPod, OpenbPodTimes } from "../openb/trace.ts";
import type { SimJob } from "../queueing/job.ts";
import {
  byArrival,
  plainDemand,
  plainFleetTask,
  usualCheckpointMs,
  type FleetTask,
  type FleetWorkload,
} from "./workload.ts";

/** How traces, which do not say, are taken. */
export interface TraceOptions {
  /** Whether tasks can be stopped and go on from a checkpoint. */
  readonly preemptible: boolean;
  /** Useful run time between two checkpoints, in milliseconds. */
  readonly checkpointMs: number;
}

/** Training jobs, as the traces mostly are: they can be stopped, and save every half hour. */
export const trainingTrace: TraceOptions = { preemptible: true, checkpointMs: usualCheckpointMs };

/** Cores and memory of a job of a trace that names GPUs only, for each GPU. */
const cpuMillisPerGpu = 4_000;
const memoryMibPerGpu = 16_384;

/**
 * Jobs of a Philly trace: each virtual cluster an organisation. A job wider than a node becomes a gang of the fewest
 * members of equal width that fit; where its width does not divide so, it is rounded up.
 */
export function phillyWorkload(
  name: string,
  jobs: readonly SimJob[],
  options: TraceOptions & { readonly gpusPerNode: number },
): FleetWorkload {
  let rounded = 0;
  let gangs = 0;
  const tasks = jobs.map(({ submitMs, durationMs, gpus, tenant }): FleetTask => {
    const replicas = Math.ceil(gpus / options.gpusPerNode);
    const gpuCount = Math.ceil(gpus / replicas);
    if (replicas > 1) gangs++;
    if (replicas * gpuCount > gpus) rounded++;
    return {
      ...plainFleetTask,
      ...traceFields(options),
      atMs: submitMs,
      org: tenant,
      project: tenant,
      runMs: durationMs,
      replicas,
      demand: demandOf(gpuCount),
    };
  });
  const notes = [
    ...(gangs > 0 ? [`${gangs} jobs wider than a node run as gangs`] : []),
    ...(rounded > 0 ? [`${rounded} of them are rounded up to members of equal width`] : []),
    ...traceNotes(options),
  ];
  return { name, tasks: byArrival(tasks), queues: [], reservations: [], notes };
}

const traceFields = ({ preemptible, checkpointMs }: TraceOptions) => ({
  preemptible,
  checkpointMs,
});

const traceNotes = ({ preemptible }: TraceOptions): readonly string[] => [
  preemptible
    ? "the trace does not say which jobs can be stopped: all can, and go on from checkpoints"
    : "no job can be stopped for another",
];

const demands = new Map<number, FleetTask["demand"]>();

/** One object for each width: the planner takes equal needs for one class. */
function demandOf(gpuCount: number): FleetTask["demand"] {
  let demand = demands.get(gpuCount);
  if (demand === undefined) {
    demand = {
      ...plainDemand,
      gpuCount,
      cpuMillis: gpuCount * cpuMillisPerGpu,
      memoryMib: gpuCount * memoryMibPerGpu,
    };
    demands.set(gpuCount, demand);
  }
  return demand;
}

/**
 * Pods of an openb list that has times, one tenant for each quality-of-service class. A pod that shares a GPU takes its
 * share, under any isolation, or where the fleet shares none a whole one. Time begins with the first creation.
 */
export function openbWorkload(
  name: string,
  pods: readonly (OpenbPod & OpenbPodTimes)[],
  options: TraceOptions & { readonly shares: boolean },
): FleetWorkload {
  const shared = pods.filter(({ gpuMilli }) => gpuMilli > 0 && gpuMilli < 1000).length;
  const tasks = pods.map((pod): FleetTask => {
    const { cpuMillis, memoryMib, gpus, gpuMilli, models, createdMs, runMs, qos } = pod;
    const isShare = options.shares && gpuMilli > 0 && gpuMilli < 1000;
    const part = isShare ? shareOf(gpuMilli) : undefined;
    const host = { ...plainDemand, cpuMillis, memoryMib };
    const demand = { ...host, gpuCount: gpus, gpuModels: models ?? [] };
    return {
      ...plainFleetTask,
      ...traceFields(options),
      atMs: createdMs,
      org: "openb",
      project: qos,
      runMs,
      demand: part === undefined ? demand : { ...demand, part },
    };
  });
  const notes = [
    ...(shared === 0
      ? []
      : [
          options.shares
            ? `${shared} pods take a share of a GPU; the trace names no share of its memory`
            : `${shared} pods that share a GPU are given a whole one: no node shares its GPUs`,
        ]),
    ...traceNotes(options),
  ];
  return { name, tasks: byArrival(tasks), queues: [], reservations: [], notes };
}

/** Any isolation will do: the trace says nothing of it. */
const shareOf = (milli: number): GpuPart => ({ kind: "share", milli, weakest: "timeslice" });
