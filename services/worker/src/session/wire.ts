import { ExitClass as WireExitClass } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { AttemptState as WireAttemptState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { type AttemptState, type ExitClass, exitClasses } from "@fastgpu/domain/states";
import type { IndexRanges } from "../runtime/port.ts";

type WireClassName = Exclude<keyof typeof WireExitClass, "UNSPECIFIED">;

const wireNames: Readonly<Record<ExitClass, WireClassName>> = {
  ok: "OK",
  user_exit: "USER_EXIT",
  oom_host: "OOM_HOST",
  oom_gpu: "OOM_GPU",
  timeout: "TIMEOUT",
  deadline: "DEADLINE",
  cancelled: "CANCELLED",
  rejected: "REJECTED",
  preempted: "PREEMPTED",
  node_lost: "NODE_LOST",
  image: "IMAGE",
  gpu_fault: "GPU_FAULT",
  start_failed: "START_FAILED",
  output_failed: "OUTPUT_FAILED",
  gang_stopped: "GANG_STOPPED",
  dependency: "DEPENDENCY",
  budget: "BUDGET",
};

/** A class as it travels. */
export function exitClassToWire(exitClass: ExitClass): WireExitClass {
  return WireExitClass[wireNames[exitClass]];
}

/** A class that came; one that this version does not know stops like a cancel. */
export function exitClassFromWire(wire: WireExitClass): ExitClass {
  return exitClasses.find((name) => WireExitClass[wireNames[name]] === wire) ?? "cancelled";
}

/** A state as it travels. */
export function stateToWire(state: AttemptState): WireAttemptState {
  return WireAttemptState[state];
}

/** Ranges as they travel: both ends included. */
export function rangesToWire(ranges: IndexRanges): { first: number; last: number }[] {
  return ranges.map(([start, end]) => ({ first: start, last: end - 1 }));
}

/** Ranges that came, half open. */
export function rangesFromWire(ranges: readonly { first: number; last: number }[]): IndexRanges {
  return ranges.map(({ first, last }) => [first, last + 1] as const);
}
