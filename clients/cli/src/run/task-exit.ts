import { ExitClass, type Task, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { exitCodes } from "../errors/exit-codes.ts";

/** Exit code for an array in which some elements failed. */
const SOME_FAILED = 1;

/**
 * The exit code with which a command ends for a task that has: the task's own where it has one, else
 * one that stands for the class of its end (`fastgpu help exit-codes`).
 */
export function exitCodeOfTask(task: Task): number {
  if (task.state === TaskState.SUCCEEDED) return exitCodes.ok;
  if (task.state === TaskState.CANCELLED || task.exitClass === ExitClass.CANCELLED)
    return exitCodes.interrupted;
  switch (task.exitClass) {
    case ExitClass.TIMEOUT:
    case ExitClass.DEADLINE:
    case ExitClass.BUDGET:
      return exitCodes.stoppedByLimit;
    case ExitClass.IMAGE:
    case ExitClass.START_FAILED:
    case ExitClass.REJECTED:
      return exitCodes.notStarted;
    default:
      break;
  }
  if (task.spec?.array !== undefined) return SOME_FAILED;
  // A task that failed must not look as if it had not, whatever its program said.
  return task.exitCode || exitCodes.endedWithoutCode;
}
