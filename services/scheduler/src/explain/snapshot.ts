import { countIndices } from "@fastgpu/domain/index-set";
import type { Clock } from "@fastgpu/domain/clock";
import { uuidToId, type AttemptId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Pool, type Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { PlanNode, PlanState, PlanTask } from "@fastgpu/scheduling/plan";
import { createMirror, type Mirror } from "../cycle/mirror.ts";
import type { StoredAttempt } from "../store/attempts.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { readHistory, type RunHistory } from "./history.ts";

/** What an explanation looks at: the fleet and the line at one moment, with how long leases may last. */
export interface Snapshot {
  /** Its leases end, and its tasks run, as long as they may. */
  readonly state: PlanState;
  readonly history: RunHistory;
  /** Time between the stop signal of a running attempt and the kill, in milliseconds. */
  readonly stopGraceMs: ReadonlyMap<AttemptId, number>;
  readonly gpus: ReadonlyMap<string, StoredGpu>;
}

/** Snapshots on any replica, with or without the lead. */
export interface Snapshots {
  read(): Promise<Snapshot>;
}

/** Reading takes at most this part of the time: a snapshot is used again for nine times as long as it took to read. */
const reuseFactor = 9;
const maxReuseMs = 5_000;

/** Reads snapshots from the database; calls at the same moment share one. */
export function createSnapshots(core: Pool, clock: Clock): Snapshots {
  let current: Promise<Snapshot> | undefined;
  let staleMs = Infinity;
  const start = (): Promise<Snapshot> => {
    const startedMs = clock.nowMs();
    staleMs = Infinity;
    const reading = transaction(core, readSnapshot, {
      isolation: "REPEATABLE READ",
      readOnly: true,
    });
    reading.then(
      () => {
        const endedMs = clock.nowMs();
        staleMs = endedMs + Math.min(maxReuseMs, reuseFactor * (endedMs - startedMs));
      },
      // A failed read is not remembered.
      () => (current = undefined),
    );
    return reading;
  };
  return {
    read() {
      if (current === undefined || clock.nowMs() > staleMs) current = start();
      return current;
    },
  };
}

const selectTasks = statement<{
  id: string;
  display_name: string;
  max_runtime_ms: bigint;
  stop_grace_ms: bigint;
}>(
  "tasks_run_times",
  `select id, display_name, max_runtime_ms, stop_grace_ms from tasks
   where state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED')`,
);

/** Longest time that one attempt (of an array: one element) of a live task may run, and then take to end, in ms. */
interface RunTime {
  readonly maxRuntimeMs: number;
  readonly stopGraceMs: number;
}

async function readSnapshot(db: Querier): Promise<Snapshot> {
  const mirror = createMirror();
  await mirror.rebuild(db);
  const rows = await db.query(selectTasks);
  const runTimes = new Map<TaskId, RunTime>();
  const names = new Map<TaskId, string>();
  for (const row of rows) {
    const id = uuidToId("task", row.id);
    names.set(id, row.display_name);
    const [maxRuntimeMs, stopGraceMs] = [Number(row.max_runtime_ms), Number(row.stop_grace_ms)];
    runTimes.set(id, { maxRuntimeMs, stopGraceMs });
  }
  const gpus = new Map<string, StoredGpu>();
  const stopGraceMs = new Map<AttemptId, number>();
  for (const mirrored of mirror.nodes.values()) {
    for (const gpu of mirrored.gpus) gpus.set(gpu.id, gpu);
    for (const attempt of mirrored.attempts) stopGraceMs.set(attempt.id, attempt.stopGraceMs);
  }
  const history = await readHistory(db, names);
  return { state: stateOf(mirror, runTimes), history, stopGraceMs, gpus };
}

/** The planner's state, with the ends of everything. */
function stateOf(mirror: Mirror, runTimes: ReadonlyMap<TaskId, RunTime>): PlanState {
  const state = mirror.planState();
  const attempts = new Map<AttemptId, StoredAttempt>();
  for (const mirrored of mirror.nodes.values()) {
    for (const attempt of mirrored.attempts) attempts.set(attempt.id, attempt);
  }
  const withEnds = (node: PlanNode): PlanNode => ({
    ...node,
    running: node.running.map((lease) => {
      const attempt = attempts.get(lease.attempt);
      const runTime = runTimes.get(lease.task);
      if (attempt === undefined || runTime === undefined) return lease;
      return { ...lease, endsByMs: latestEndMs(attempt, runTime) };
    }),
  });
  const withRunTime = (task: PlanTask): PlanTask => ({
    ...task,
    maxRuntimeMs: runTimes.get(task.id)?.maxRuntimeMs ?? task.maxRuntimeMs,
  });
  return { ...state, nodes: state.nodes.map(withEnds), tasks: state.tasks.map(withRunTime) };
}

/** Until when an attempt may run at most; one that still starts is taken to run from now on its lease. */
function latestEndMs(attempt: StoredAttempt, { maxRuntimeMs, stopGraceMs }: RunTime): number {
  if (attempt.stopMs !== undefined) return attempt.stopMs + attempt.stopGraceMs;
  const elements = attempt.elements === undefined ? 1 : countIndices(attempt.elements);
  const turns = Math.ceil(elements / Math.max(1, attempt.slots));
  return (attempt.runningMs ?? attempt.leaseMs) + turns * (maxRuntimeMs + stopGraceMs);
}
