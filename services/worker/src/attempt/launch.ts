import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { parseMemberName } from "@fastgpu/domain/member-name";
import { SimulatedPolicy } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { join } from "node:path";
import type { GpuDevice } from "../gpu/device.ts";
import type { Launch, Runtime } from "../runtime/port.ts";
import { rangesFromWire } from "../session/wire.ts";

/** What keeps an attempt from being started here at all. */
export function refusalOf(lease: Lease, gpus: readonly GpuDevice[]): string | undefined {
  if (gpus.length < lease.gpus.length) return "a GPU of the lease is not on this worker";
  if (lease.spec === undefined || lease.spec.runtime.case === undefined) return "an empty spec";
  const forbidden = lease.spec.simulated === SimulatedPolicy.FORBID;
  if (forbidden && gpus.some((gpu) => gpu.simulated)) {
    return "the task forbids simulated GPUs and this worker's are simulated";
  }
  return undefined;
}

const defaultGraceMs = 10_000;
const refusedPrefixes = ["LD_", "CUDA_MPS_", "NVIDIA_"];
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Folders below the work folder that a task is told about. */
export const folders = { inputs: "inputs", outputs: "outputs" } as const;

/**
 * The launch that a lease asks for, on this worker's devices. `checkpoints`: the task's folder of checkpoints; a task
 * that names a place of its own keeps it.
 */
export function launchOf(
  lease: Lease,
  gpus: readonly GpuDevice[],
  runtime: Pick<Runtime, "kind" | "workFolder">,
  checkpoints: string,
): Launch {
  const { spec } = lease;
  const container = spec?.runtime.case === "container" ? spec.runtime.value : undefined;
  const process = spec?.runtime.case === "process" ? spec.runtime.value : undefined;
  const command = container?.command ?? process?.command ?? [];
  const directory = container?.workingDir ?? process?.workingDir ?? "";
  const inside = runtime.workFolder(lease.attempt).inside;
  const resources = spec?.resources;
  return {
    name: lease.attempt,
    image: container?.image,
    command,
    env: environmentOf(lease, gpus, inside),
    workdir: directory === "" ? undefined : directory,
    checkpoints: spec?.env["FASTGPU_CHECKPOINT_DIR"] === undefined ? checkpoints : undefined,
    limits: {
      cpuMillis: Number(resources?.cpuMillis ?? 0n),
      memoryMib: Number(resources?.memoryMib ?? 0n),
      pids: 0,
    },
    devices: gpus.filter((gpu) => !gpu.simulated).map((gpu) => `nvidia.com/gpu=${gpu.uuid}`),
    array:
      lease.elements.length === 0
        ? undefined
        : { ranges: rangesFromWire(lease.elements), slots: Math.max(1, lease.slots) },
    network: "none",
    timeoutMs: durationMs(spec?.maxRuntime) ?? 0,
    stopSignal: "SIGTERM",
    graceMs: durationMs(spec?.stopGrace) ?? defaultGraceMs,
  };
}

/** The whole environment of a task: nothing of the worker's own, and no variable that steers loaders or drivers. */
function environmentOf(
  lease: Lease,
  gpus: readonly GpuDevice[],
  work: string,
): Record<string, string> {
  const own = Object.entries(lease.spec?.env ?? {}).filter(
    ([name]) => !refusedPrefixes.some((prefix) => name.startsWith(prefix)),
  );
  const real = gpus.filter((gpu) => !gpu.simulated);
  const isContainer = lease.spec?.runtime.case === "container";
  return {
    ...(isContainer ? {} : { PATH: defaultPath, LANG: "C.UTF-8" }),
    ...Object.fromEntries(own),
    FASTGPU_TASK: lease.task,
    // The same for all members of a gang.
    FASTGPU_ATTEMPT: parseMemberName(lease.attempt)?.attempt ?? lease.attempt,
    FASTGPU_PROJECT: lease.project,
    FASTGPU_ATTEMPT_NUMBER: String(lease.attemptNumber),
    FASTGPU_INPUT_DIR: join(work, folders.inputs),
    FASTGPU_OUTPUT_DIR: join(work, folders.outputs),
    FASTGPU_GPU_COUNT: String(gpus.length),
    FASTGPU_GPU_SIMULATED: gpus.some((gpu) => gpu.simulated) ? "1" : "0",
    // Without a GPU of its own a process must not find those of others.
    CUDA_VISIBLE_DEVICES: real.map((gpu) => gpu.uuid).join(","),
    ...gangOf(lease),
    ...(lease.traceparent === "" ? {} : { TRACEPARENT: lease.traceparent }),
  };
}

/** A member's place in its gang, in our words and in those of the common launchers. */
function gangOf({ gang }: Lease): Record<string, string> {
  if (gang === undefined) return {};
  const [rank, size] = [String(gang.rank), String(gang.size)];
  return {
    RANK: rank,
    WORLD_SIZE: size,
    FASTGPU_GANG_RANK: rank,
    FASTGPU_GANG_SIZE: size,
    FASTGPU_GANG_NODES: gang.nodes.join(","),
  };
}

function durationMs(duration: { seconds: bigint; nanos: number } | undefined): number | undefined {
  if (duration === undefined) return undefined;
  return Number(duration.seconds) * 1_000 + Math.floor(duration.nanos / 1e6);
}
