import type { AttemptId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import type { PredictionError } from "@fastgpu/scheduling/order/predict";
import { RunTimes } from "@fastgpu/scheduling/order/run-times";
import type { PlanRunTimes } from "@fastgpu/scheduling/plan";
import { readRunsOf, type PastRun } from "../store/run-times.ts";

/** What the leader knows of run times. */
export interface RunTimeBook {
  /** Begins anew with past runs, in the order of their ends. */
  restart(runs: readonly PastRun[]): void;
  /** An attempt has ended: the next `learn` reads it. */
  noteEnded(attempt: AttemptId): void;
  /** Learns from what has ended since the last call. */
  learn(db: Querier): Promise<void>;
  /** How good the expectations were so far. */
  error(): PredictionError;
  /** For the planner's state: the same list until it changes. */
  plan(): readonly PlanRunTimes[];
}

/** An empty book. */
export function createRunTimeBook(): RunTimeBook {
  let runTimes = new RunTimes();
  const ended = new Set<AttemptId>();
  return {
    restart(runs) {
      ended.clear();
      runTimes = new RunTimes();
      for (const run of runs) runTimes.observe(run, run.runMs);
    },
    noteEnded(attempt) {
      ended.add(attempt);
    },
    async learn(db) {
      const ids = [...ended];
      for (const run of await readRunsOf(db, ids)) runTimes.observe(run, run.runMs);
      for (const id of ids) ended.delete(id);
    },
    error: () => runTimes.error(),
    plan: () => runTimes.plan(),
  };
}
