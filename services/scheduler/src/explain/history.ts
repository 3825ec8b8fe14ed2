import { uuidToId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { Lengths } from "@fastgpu/scheduling/explain/future";
import { RunTimePredictor, type Prediction } from "@fastgpu/scheduling/order/predict";

/** Run times of what has ended, to tell how long the like of it will run. */
export interface RunHistory {
  /** What is expected of a task with so many GPUs; undefined: no history of its project. */
  predict(of: HistoryKey): Prediction | undefined;
  /** Mean factor by which predictions were off, for example 1.5; undefined: none was made yet. */
  readonly meanFactorOff: number | undefined;
  /** Names for people of live tasks. */
  readonly names: ReadonlyMap<TaskId, string>;
}

/** What tells runs that are alike. */
interface HistoryKey {
  readonly project: ProjectId;
  readonly gpus: number;
  readonly name: string;
}

/** Attempts that are looked at, the last ones. */
const maxRuns = 5_000;

const selectRuns = statement<{
  project_id: string;
  display_name: string;
  gpu_count: number;
  run_ms: bigint;
}>(
  "attempts_run_times",
  `select a.project_id, t.display_name, t.gpu_count, a.gone_ms - a.running_ms as run_ms
   from (select * from attempts order by id desc limit $1) a join tasks t on t.id = a.task_id
   where a.exit_class in ('ok', 'user_exit') and a.elements is null and a.gone_ms > a.running_ms
   order by a.gone_ms`,
);

/** Reads the run times of the last attempts that ended by themselves. */
export async function readHistory(
  db: Querier,
  names: ReadonlyMap<TaskId, string>,
): Promise<RunHistory> {
  const predictor = new RunTimePredictor();
  for (const row of await db.query(selectRuns, [maxRuns])) {
    const project = uuidToId("proj", row.project_id);
    const keys = keysOf({ project, gpus: row.gpu_count, name: row.display_name });
    predictor.observe(keys, Number(row.run_ms), predictor.predict(keys));
  }
  const { predicted, meanAbsDoublings } = predictor.error();
  return {
    predict: (of) => predictor.predict(keysOf(of)),
    meanFactorOff: predicted === 0 ? undefined : 2 ** meanAbsDoublings,
    names,
  };
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
