import { decideRetry, defaultRetryOn } from "@fastgpu/domain/retry";
import type { ExitClass } from "@fastgpu/domain/states";
import { endedByItself } from "@fastgpu/scheduling/order/run-times";
import type { FleetSimulation } from "./simulation.ts";
import type { Attempt, TaskRun } from "./task-run.ts";

/** An attempt comes to its end: its GPUs are free, its work is kept or lost, and its task ends or waits again. */
export function endAttempt(sim: FleetSimulation, attempt: Attempt, exitClass: ExitClass): void {
  if (attempt.ended) return;
  attempt.ended = true;
  if (attempt.next !== undefined) sim.events.cancel(attempt.next);
  attempt.next = undefined;
  const { task } = attempt;
  const { nowMs } = sim;
  const keptMs = keptAtEnd(attempt, exitClass, nowMs);
  sim.record.ended(attempt, { class: exitClass, nowMs, keptMs });
  if (attempt.runningMs !== undefined) {
    task.attainedGpuMs += task.gpus * (nowMs - attempt.runningMs);
  }
  learnRunTime(sim, attempt, exitClass);
  sim.release(attempt);
  if (task.spec.array === undefined) task.savedMs = attempt.savedAtStartMs + keptMs;
  goOn(sim, attempt, { exitClass, keptMs });
}

/** What came to an end of its own says how long the like of it runs. */
function learnRunTime(sim: FleetSimulation, attempt: Attempt, exitClass: ExitClass): void {
  const { task, runningMs } = attempt;
  const { demand, array, user } = task.spec;
  if (runningMs === undefined || array !== undefined || !endedByItself.has(exitClass)) return;
  const { project, gpus } = task;
  const { cpuMillis, memoryMib } = demand;
  sim.runTimes.observe({ project, user, gpus, cpuMillis, memoryMib }, sim.nowMs - runningMs);
  // All that it has had: this attempt's is counted already.
  const ranMs = task.attainedGpuMs / gpus;
  if (gpus > 0) sim.ranks.observe({ project, gpus, submittedMs: task.spec.atMs, ranMs });
}

/** Useful run time that is not lost with the attempt. */
function keptAtEnd(attempt: Attempt, exitClass: ExitClass, nowMs: number): number {
  if (exitClass === "ok") return attempt.workMs;
  const { stopping, deadMs, task } = attempt;
  const atMs = Math.min(nowMs, deadMs ?? nowMs, stopping?.sinceMs ?? nowMs);
  const saves = task.spec.savesOnStop && task.spec.array === undefined;
  // Whoever is told to stop saves first, unless it is dead or the hardware under it has failed.
  if (exitClass === "preempted" && deadMs === undefined && saves) return attempt.doneMs(atMs);
  return attempt.keptMs(atMs);
}

function goOn(
  sim: FleetSimulation,
  attempt: Attempt,
  end: { exitClass: ExitClass; keptMs: number },
): void {
  const { task } = attempt;
  const { exitClass } = end;
  const { runMs, array, maxRetries, failure } = task.spec;
  const done =
    exitClass === "ok"
      ? attempt.elements
      : array === undefined
        ? 0
        : Math.min(attempt.elements, Math.floor(end.keptMs / runMs));
  const left = attempt.elements - done;
  task.ended += done;
  if (left > 0) {
    if (failure?.class === exitClass) task.failures++;
    const counts = { retries: task.retries, freeRequeues: task.freeRequeues };
    const decision = decideRetry(exitClass, counts, { maxRetries, retryOn: defaultRetryOn });
    if (decision.kind === "requeue") {
      if (decision.costsRetry) task.retries++;
      else task.freeRequeues++;
      if (decision.excludeGpu) exclude(attempt);
      if (decision.delayMs > 0) {
        task.notBeforeMs = sim.nowMs + decision.delayMs;
        sim.events.add(task.notBeforeMs, { kind: "wake" });
      }
      return sim.enqueue(task, left);
    }
    task.ended += left;
    task.failedElements += left;
  }
  if (isOver(task)) sim.end(task, task.failedElements > 0 ? "failed" : "succeeded");
}

const isOver = (task: TaskRun): boolean =>
  task.ended === (task.spec.array?.elements ?? 1) && task.attempts.size === 0;

function exclude({ task, faultyGpu }: Attempt): void {
  if (faultyGpu !== undefined && !task.excludedGpus.includes(faultyGpu)) {
    task.excludedGpus = [...task.excludedGpus, faultyGpu];
  }
}
