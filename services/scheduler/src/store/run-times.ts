import { idToUuid, uuidToId, type AttemptId, type ProjectId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { PastTask } from "@fastgpu/scheduling/order/ranks";
import { endedByItself, type RunKind } from "@fastgpu/scheduling/order/run-times";

/** How long an attempt ran that came to its end by itself, and its task with it. */
export interface PastRun extends RunKind, PastTask {
  readonly project: ProjectId;
  /** The task's name for people. */
  readonly name: string;
  readonly runMs: number;
}

/** Attempts that are looked at for a history, the last ones. */
const maxAttempts = 10_000;

interface RunRow {
  project_id: string;
  principal: string;
  display_name: string;
  gpus: number;
  cpu_millis: bigint;
  memory_mib: bigint;
  run_ms: bigint;
  submitted_ms: bigint;
  attained_gpu_ms: bigint;
}

/** Of a gang the first member; of arrays nothing, for their attempts run many elements. */
const runs = (attempts: string, classes: string): string =>
  `select a.project_id, a.principal, t.display_name, t.gpu_count * t.replicas as gpus,
     a.cpu_millis, a.memory_mib, a.gone_ms - a.running_ms as run_ms,
     coalesce(a.submitted_ms, t.submitted_ms, t.created_ms) as submitted_ms, a.attained_gpu_ms
   from ${attempts} a join tasks t on t.id = a.task_id
   where a.member = 0 and a.elements is null and a.exit_class = any(${classes}) and a.gone_ms > a.running_ms
   order by a.gone_ms, a.id`;

const selectLast = statement<RunRow>(
  "attempts_last_runs",
  runs("(select * from attempts order by id desc limit $1)", "$2::text[]"),
);

const selectOf = statement<RunRow>(
  "attempts_runs",
  runs("(select * from attempts where id = any($1::uuid[]))", "$2::text[]"),
);

/** The runs among the last attempts, in the order of their ends. */
export async function readLastRuns(db: Querier): Promise<readonly PastRun[]> {
  return (await db.query(selectLast, [maxAttempts, [...endedByItself]])).map(toRun);
}

/** The runs among these attempts, in the order of their ends. */
export async function readRunsOf(
  db: Querier,
  attempts: readonly AttemptId[],
): Promise<readonly PastRun[]> {
  if (attempts.length === 0) return [];
  return (await db.query(selectOf, [attempts.map(idToUuid), [...endedByItself]])).map(toRun);
}

function toRun(row: RunRow): PastRun {
  const runMs = Number(row.run_ms);
  return {
    project: uuidToId("proj", row.project_id),
    user: row.principal,
    name: row.display_name,
    gpus: row.gpus,
    cpuMillis: Number(row.cpu_millis),
    memoryMib: Number(row.memory_mib),
    runMs,
    submittedMs: Number(row.submitted_ms),
    // What its lineage had before, and this attempt.
    ranMs: runMs + (row.gpus > 0 ? Number(row.attained_gpu_ms) / row.gpus : 0),
  };
}
