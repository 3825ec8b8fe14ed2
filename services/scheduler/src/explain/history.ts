import type { ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { Lengths } from "@fastgpu/scheduling/explain/future";
import { leastRuns, RunTimePredictor, type Prediction } from "@fastgpu/scheduling/order/predict";
import type { PastRun } from "../store/run-times.ts";

/** Run times of what has ended, to tell how long the like of it will run. */
export interface RunHistory {
  /** What is expected of a task with so many GPUs; undefined: no history of its project. */
  predict(of: HistoryKey): Prediction | undefined;
  /** Mean factor by which predictions were off, for example 1.5; undefined: none was made yet. */
  readonly meanFactorOff: number | undefined;
  /** Names for people of live tasks, those that tell something of a run time. */
  readonly names: ReadonlyMap<TaskId, string>;
}

/** What tells runs that are alike. */
interface HistoryKey {
  readonly project: ProjectId;
  readonly gpus: number;
  readonly name: string;
}

/** What past runs, in the order of their ends, say of those to come. */
export function historyOf(
  runs: readonly PastRun[],
  names: ReadonlyMap<TaskId, string>,
): RunHistory {
  const predictor = new RunTimePredictor();
  for (const run of runs) {
    const keys = keysOf(run);
    predictor.observe(keys, run.runMs, predictor.predict(keys));
  }
  const { predicted, meanAbsDoublings } = predictor.error();
  return {
    predict: (of) => predictor.predict(keysOf(of)),
    meanFactorOff: predicted === 0 ? undefined : 2 ** meanAbsDoublings,
    names,
  };
}

/** A project's name for tasks. */
export interface TaskName {
  readonly project: ProjectId;
  readonly name: string;
}

/** Names of which enough runs are known that they tell more than the project does. */
export function tellingNames(runs: readonly PastRun[]): readonly TaskName[] {
  const named = Map.groupBy(
    runs.filter(({ name }) => name !== ""),
    ({ project, name }) => `${project}/${name}`,
  );
  return [...named.values()].flatMap((alike) =>
    alike.length < leastRuns ? [] : alike.slice(0, 1),
  );
}

/** From close to wide: runs of the same name, of as many GPUs, of the project. */
function keysOf({ project, gpus, name }: HistoryKey): string[] {
  const wide = [`${project}/${gpus}`, project];
  return name === "" ? wide : [`${project}/${gpus}/${name}`, ...wide];
}

/**
 * How long attempts are expected to last: half as long as runs like them did, where they run longer already as long
 * as nine in ten did, and never longer than they may.
 */
export function expectedLengths(history: RunHistory, longest: Lengths, nowMs: number): Lengths {
  return {
    endMs(lease) {
      const latest = longest.endMs(lease);
      const { project, gpus } = lease;
      const name = history.names.get(lease.task) ?? "";
      const made = history.predict({ project, gpus: gpus.length, name });
      const since = lease.runningSinceMs ?? nowMs;
      if (made === undefined || lease.stopping) return latest;
      const ends = [since + made.p50Ms, since + made.p90Ms].find((at) => at > nowMs);
      return Math.min(latest, ends ?? latest);
    },
    runMs(task) {
      const latest = longest.runMs(task);
      const { project, demand } = task;
      const name = history.names.get(task.id) ?? "";
      const made = history.predict({ project, gpus: demand.gpuCount, name });
      return made === undefined ? latest : Math.min(latest, made.p50Ms);
    },
    stopMs: (lease) => longest.stopMs(lease),
  };
}
