import { RunTimePredictor } from "@fastgpu/scheduling/order/predict";
import type { Prediction, PredictionError } from "@fastgpu/scheduling/order/predict";
import { EventHeap } from "../event-heap.ts";
import type { SimJob } from "./job.ts";

/** Keys of a job from close to wide: its tenant and width, its tenant, everybody. */
function keysOf(job: SimJob): readonly string[] {
  return [`${job.tenant} ${job.gpus}`, job.tenant, "*"];
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
      predictor.observe(keysOf(ended.job), ended.job.durationMs, ended.made);
    }
    const made = predictor.predict(keysOf(job));
    ends.add(job.submitMs + job.durationMs, { job, made });
  }
  for (let next = ends.pop(); next !== undefined; next = ends.pop()) {
    const { job, made } = next.event;
    predictor.observe(keysOf(job), job.durationMs, made);
  }
  return predictor.error();
}
