import type { Clock } from "@fastgpu/domain/clock";
import { idToUuid, uuidToId, type AttemptId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Pool } from "@fastgpu/postgres/pool";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import type { WindowBounds } from "@fastgpu/scheduling/line-window";
import type { PlanState, PlanTask } from "@fastgpu/scheduling/plan";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { createMirror, oneMoment } from "../cycle/mirror.ts";
import { readPolicyInForce } from "../policy/follow.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { readLastRuns } from "../store/run-times.ts";
import { historyOf, tellingNames, type RunHistory, type TaskName } from "./history.ts";

/** What an explanation looks at: the fleet and the line at one moment, with how long leases may last. */
export interface Snapshot {
  /** Its leases end, and its tasks run, as long as they may. Without the tasks that wait for money, as the leader plans. */
  readonly state: PlanState;
  /** Tasks that wait for money. */
  readonly short: ReadonlyMap<TaskId, PlanTask>;
  /** By which the leader plans. */
  readonly policy: SchedulingPolicy;
  readonly history: RunHistory;
  /** Time between the stop signal of a running attempt and the kill, in milliseconds. */
  readonly stopGraceMs: ReadonlyMap<AttemptId, number>;
  readonly gpus: ReadonlyMap<string, StoredGpu>;
}

/** Snapshots on any replica, with or without the lead. */
export interface Snapshots {
  read(): Promise<Snapshot>;
}

/**
 * A small state is read for each question, so that who asks sees what they did last. One with more waiting tasks and
 * nodes than this is used again for six times as long as it took to read, but not longer than {@link maxReuseMs}: whoever
 * asks about several tasks one after the other gets one picture of a long line, worked out once.
 */
const smallState = 2_000;
const reuseFactor = 6;
const maxReuseMs = 10_000;

/** Reads snapshots from the database; calls at the same moment share one. */
export function createSnapshots(core: Pool, clock: Clock): Snapshots {
  let current: Promise<Snapshot> | undefined;
  let staleMs = Infinity;
  const start = (): Promise<Snapshot> => {
    const startedMs = clock.nowMs();
    staleMs = Infinity;
    const reading = transaction(core, (tx) => readSnapshot(tx, clock), oneMoment);
    reading.then(
      ({ state }) => {
        const endedMs = clock.nowMs();
        const reuses = state.tasks.length + state.nodes.length > smallState;
        const reuseMs = Math.min(maxReuseMs, reuseFactor * (endedMs - startedMs));
        staleMs = reuses ? endedMs + reuseMs : -Infinity;
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

const selectNamed = statement<{ id: string; nth: bigint }>(
  "tasks_named",
  `select t.id, known.nth from tasks t
     join unnest($1::uuid[], $2::text[]) with ordinality as known (project_id, name, nth)
       on known.project_id = t.project_id and known.name = t.display_name
   where t.state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED')`,
);

/** Names of live tasks, those alone of which something is known. */
async function readNames(
  tx: Tx,
  telling: readonly TaskName[],
): Promise<ReadonlyMap<TaskId, string>> {
  if (telling.length === 0) return new Map();
  const projects = telling.map(({ project }) => idToUuid(project));
  const rows = await tx.query(selectNamed, [projects, telling.map(({ name }) => name)]);
  // One text for all tasks of a name.
  return new Map(rows.map(({ id, nth }) => [uuidToId("task", id), telling[Number(nth) - 1]!.name]));
}

const selectShort = statement<{ id: string }>(
  "tasks_short_of_money",
  "select id from tasks where state = 'QUEUED' and queue_reason = 'BUDGET_EXHAUSTED'",
);

/** An explanation counts who is before a task, so it looks at all of them, as far as memory bears it. */
const wholeLine: WindowBounds = { tasks: 1_000_000, perLine: 1_000_000 };

async function readSnapshot(tx: Tx, clock: Clock): Promise<Snapshot> {
  const mirror = createMirror(clock, wholeLine);
  const runs = await readLastRuns(tx);
  await mirror.rebuild(tx, runs);
  const names = await readNames(tx, tellingNames(runs));
  const gpus = new Map<string, StoredGpu>();
  const stopGraceMs = new Map<AttemptId, number>();
  for (const mirrored of mirror.nodes.values()) {
    for (const gpu of mirrored.gpus) gpus.set(gpu.id, gpu);
    for (const attempt of mirrored.attempts) stopGraceMs.set(attempt.id, attempt.stopGraceMs);
  }
  const history = historyOf(runs, names);
  const { policy } = await readPolicyInForce(tx);
  const { order } = policy;
  if (order.historyBoundMd > 0) {
    mirror.runTimes.renewRanks(mirror.planState(), { nowMs: clock.nowMs(), options: order });
  }
  const state = mirror.planState();
  const unpaid = new Set((await tx.query(selectShort, [])).map(({ id }) => uuidToId("task", id)));
  const tasks = state.tasks.filter(({ id }) => !unpaid.has(id));
  const short = state.tasks.filter(({ id }) => unpaid.has(id));
  return {
    state: { ...state, tasks },
    short: new Map(short.map((task) => [task.id, task])),
    ...{ policy, history, stopGraceMs, gpus },
  };
}
