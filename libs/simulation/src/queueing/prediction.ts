import { RunTimePredictor } from "@fastgpu/scheduling/order/predict";
import type { Prediction, PredictionError, TaskKind } from "@fastgpu/scheduling/order/predict";
import { EventHeap } from "../event-heap.ts";
import type { SimJob } from "./job.ts";

/** What tells jobs of one kind in a trace: their tenant and their width. */
export function kindOf(job: SimJob): TaskKind {
  return { tenant: job.tenant, shape: job.gpus };
}

/**
 * How well run times are predicted from history over a trace: each job is predicted at its submit from what has ended
 * by then, were nobody to wait.
 */
export function predictionError(jobs: readonly SimJob[]): PredictionError {
  const predictor = new RunTimePredictor();
  const ends = new EventHeap<{ readonly job: SimJob; readonly made: Prediction | undefined }>();
  for (const job of jobs) {
    while (ends.nextMs() <= job.submitMs) {
      const ended = ends.pop()!.event;
      predictor.observe(kindOf(ended.job), ended.job.durationMs, ended.made);
    }
    const made = predictor.predict(kindOf(job));
    ends.add(job.submitMs + job.durationMs, { job, made });
  }
  for (let next = ends.pop(); next !== undefined; next = ends.pop()) {
    const { job, made } = next.event;
    predictor.observe(kindOf(job), job.durationMs, made);
  }
  return predictor.error();
}
