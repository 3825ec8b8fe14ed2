import type { AttemptId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import type { PredictionError } from "@fastgpu/scheduling/order/predict";
import { Ranks } from "@fastgpu/scheduling/order/ranks";
import { RunTimes } from "@fastgpu/scheduling/order/run-times";
import type { PlanRank, PlanRunTimes } from "@fastgpu/scheduling/plan";
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
  /** Ranks anew what has run and not ended, from what was learned and the state. */
  renewRanks(...of: Parameters<Ranks["renew"]>): void;
  /** For the planner's state: the same list until it is renewed. */
  ranks(): readonly PlanRank[];
}

/** An empty book. */
export function createRunTimeBook(): RunTimeBook {
  let runTimes = new RunTimes();
  let ranks = new Ranks();
  const observe = (run: PastRun): void => {
    runTimes.observe(run, run.runMs);
    ranks.observe(run);
  };
  const ended = new Set<AttemptId>();
  return {
    restart(runs) {
      ended.clear();
      runTimes = new RunTimes();
      ranks = new Ranks();
      for (const run of runs) observe(run);
    },
    noteEnded(attempt) {
      ended.add(attempt);
    },
    async learn(db) {
      const ids = [...ended];
      for (const run of await readRunsOf(db, ids)) observe(run);
      for (const id of ids) ended.delete(id);
    },
    error: () => runTimes.error(),
    plan: () => runTimes.plan(),
    renewRanks: (...of) => ranks.renew(...of),
    ranks: () => ranks.plan(),
  };
}
