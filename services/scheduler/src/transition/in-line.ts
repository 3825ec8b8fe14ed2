import { unionIndices } from "@fastgpu/domain/index-set";
import type { ArraySets, StoredTask } from "../store/tasks.ts";

const arrayStates: readonly StoredTask["state"][] = ["QUEUED", "SCHEDULED", "STARTING", "RUNNING"];

/** Whether leases may be given of it: a plain task that is queued, or an array that goes on and has elements that wait. */
export function isInLine(task: StoredTask): boolean {
  if (task.cancelRequested || task.waitingFor > 0) return false;
  if (task.array === undefined) return task.state === "QUEUED";
  return arrayStates.includes(task.state) && task.array.pending.length > 0;
}

/** An array whose elements that wait are cancelled. */
export function withoutPending<Sets extends ArraySets>(array: Sets): Sets {
  return { ...array, pending: [], cancelled: unionIndices(array.cancelled, array.pending) };
}
