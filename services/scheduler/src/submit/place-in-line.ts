import { countIndices } from "@fastgpu/domain/index-set";
import type { StoredTask } from "../store/tasks.ts";
import type { NewTask } from "../store/submits.ts";

/**
 * Whether a task that replaces one that waits keeps its place in line, the time of its submit. Only where nobody in line
 * could tell that they were exchanged, or is better off: the same user asks for no more of anything than has stood there.
 * Models, `simulated`, `preemptible`, `max_cost` and what is run may differ: they are no part of the claim. What has
 * run already, or waited for something else than its turn, has no such place: the time that it ran, or was not ready,
 * would count as queueing.
 */
export function keepsPlace(
  old: StoredTask,
  { task, user, nowMs }: Pick<NewTask, "task" | "user" | "nowMs">,
): boolean {
  const stood =
    old.state === "QUEUED" &&
    old.attemptCount === 0 &&
    old.waitingFor === 0 &&
    old.notBeforeMs <= nowMs;
  const ready = task.dependencies.length === 0 && task.startAfterMs <= nowMs;
  return stood && ready && old.user === user && asksForNoMore(old, task);
}

function asksForNoMore(old: StoredTask, task: NewTask["task"]): boolean {
  const [before, after] = [old.demand, task.demand];
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  return (
    after.gpuCount <= before.gpuCount &&
    after.gpuMinMemoryMib <= before.gpuMinMemoryMib &&
    after.cpuMillis <= before.cpuMillis &&
    after.memoryMib <= before.memoryMib &&
    after.diskMib <= before.diskMib &&
    (before.part === undefined || same(before.part, after.part)) &&
    task.replicas <= old.replicas &&
    (same(task.topology, {}) || same(task.topology, old.topology)) &&
    task.priority <= old.priority &&
    task.maxRuntimeMs <= old.maxRuntimeMs &&
    task.stopGraceMs <= old.stopGraceMs &&
    isNoLongerArray(old, task)
  );
}

function isNoLongerArray({ array: old }: StoredTask, { array }: NewTask["task"]): boolean {
  if (array === undefined) return true;
  if (old === undefined) return false;
  return array.count <= countIndices(old.pending) && array.parallelism <= old.parallelism;
}
