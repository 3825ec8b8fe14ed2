import type { Budget } from "./budget.ts";
import type { Ground } from "./ground.ts";
import type { Job } from "./line.ts";

/** The job as it may be placed: off the GPUs of nodes that are kept for a reservation. */
export function confined(job: Job, budget: Budget): Job {
  const barred = budget.offLimits(job.task, job.endMs);
  if (barred.length === 0 || job.gpuMilli === 0) return job;
  const excludedGpus = [...job.task.excludedGpus, ...barred];
  return { ...job, task: { ...job.task, excludedGpus } };
}

/** Whether nothing but the nodes that are kept for a reservation stands in the way of a job. */
export function wouldFit(
  { task, endMs }: Job,
  { ground, budget }: { ground: Ground; budget: Budget },
): boolean {
  const mark = ground.mark();
  const found = budget
    .allowed(task, endMs)
    .some((models) => ground.place(task, models) !== undefined);
  ground.rollback(mark);
  return found;
}
