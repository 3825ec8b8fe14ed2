import {
  AttemptState as WireAttemptState,
  DependencyCondition,
  ExitClass as WireExitClass,
  QueueReason as WireQueueReason,
  TaskState as WireTaskState,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { GpuState, NodeState } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import type { AttemptState, ExitClass, TaskState } from "@fastgpu/domain/states";

const taskStateToWireMap: Readonly<Record<TaskState, WireTaskState>> = {
  DRAFT: WireTaskState.DRAFT,
  QUEUED: WireTaskState.QUEUED,
  SCHEDULED: WireTaskState.SCHEDULED,
  STARTING: WireTaskState.STARTING,
  RUNNING: WireTaskState.RUNNING,
  STOPPING: WireTaskState.STOPPING,
  FINALIZING: WireTaskState.FINALIZING,
  SUCCEEDED: WireTaskState.SUCCEEDED,
  FAILED: WireTaskState.FAILED,
  CANCELLED: WireTaskState.CANCELLED,
};

const attemptStateToWireMap: Readonly<Record<AttemptState, WireAttemptState>> = {
  LEASED: WireAttemptState.LEASED,
  STARTING: WireAttemptState.STARTING,
  RUNNING: WireAttemptState.RUNNING,
  STOPPING: WireAttemptState.STOPPING,
  FINALIZING: WireAttemptState.FINALIZING,
  ENDED: WireAttemptState.ENDED,
};

const exitClassToWireMap: Readonly<Record<ExitClass, WireExitClass>> = {
  ok: WireExitClass.OK,
  user_exit: WireExitClass.USER_EXIT,
  oom_host: WireExitClass.OOM_HOST,
  oom_gpu: WireExitClass.OOM_GPU,
  timeout: WireExitClass.TIMEOUT,
  deadline: WireExitClass.DEADLINE,
  cancelled: WireExitClass.CANCELLED,
  rejected: WireExitClass.REJECTED,
  preempted: WireExitClass.PREEMPTED,
  node_lost: WireExitClass.NODE_LOST,
  image: WireExitClass.IMAGE,
  gpu_fault: WireExitClass.GPU_FAULT,
  start_failed: WireExitClass.START_FAILED,
  output_failed: WireExitClass.OUTPUT_FAILED,
  gang_stopped: WireExitClass.GANG_STOPPED,
  dependency: WireExitClass.DEPENDENCY,
  budget: WireExitClass.BUDGET,
};

const exitClassFromWireMap = new Map<WireExitClass, ExitClass>();
for (const name of Object.keys(exitClassToWireMap) as ExitClass[]) {
  exitClassFromWireMap.set(exitClassToWireMap[name], name);
}

/** Why a queued task waits, as stored. */
export type QueueReason = Exclude<keyof typeof WireQueueReason, "UNSPECIFIED">;

/** States of a node, as stored. */
export type NodeStateName = Exclude<keyof typeof NodeState, "UNSPECIFIED">;

/** States of a GPU, as stored. */
export type GpuStateName = Exclude<keyof typeof GpuState, "UNSPECIFIED">;

export const taskStateToWire = (state: TaskState): WireTaskState => taskStateToWireMap[state];
export const attemptStateToWire = (state: AttemptState): WireAttemptState =>
  attemptStateToWireMap[state];
export const exitClassToWire = (exitClass: ExitClass): WireExitClass =>
  exitClassToWireMap[exitClass];

/** The class of a wire value; a value that a newer worker may send and this one does not know is `start_failed`. */
export const exitClassFromWire = (exitClass: WireExitClass): ExitClass =>
  exitClassFromWireMap.get(exitClass) ?? "start_failed";

export const queueReasonToWire = (reason: QueueReason): WireQueueReason => WireQueueReason[reason];
export const dependencyConditionToWire = (
  condition: Exclude<keyof typeof DependencyCondition, "UNSPECIFIED">,
): DependencyCondition => DependencyCondition[condition];
export const nodeStateToWire = (state: NodeStateName): NodeState => NodeState[state];
export const gpuStateToWire = (state: GpuStateName): GpuState => GpuState[state];
