import {
  countIndices,
  indexSet,
  subtractIndices,
  unionIndices,
  type IndexSet,
} from "@fastgpu/domain/index-set";
import { idToUuid, type TaskId } from "@fastgpu/domain/ids";
import { decideRetry } from "@fastgpu/domain/retry";
import {
  isTerminal,
  taskTransitions,
  type ExitClass,
  type TaskState,
} from "@fastgpu/domain/states";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents, type NewEvent } from "@fastgpu/postgres/outbox";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { readUnfolded, storeFolded, type StoredAttempt } from "../store/attempts.ts";
import {
  lockTasks,
  updateTasks,
  type ArraySets,
  type StoredTask,
  type TaskChange,
} from "../store/tasks.ts";
import { taskMoved } from "../transition/events.ts";
import { wasPreempted } from "../transition/fold.ts";
import { withoutPending } from "../transition/in-line.ts";
import { cycleLeader } from "./commit.ts";

const readRetries = statement<{ task_id: string; index: number; retries: number }>(
  "array_elements_read",
  `select e.task_id, e.index, e.retries from array_elements e
   join unnest($1::uuid[], $2::int[]) as c(task_id, index) on e.task_id = c.task_id and e.index = c.index`,
);
const writeRetries = statement(
  "array_elements_write",
  `insert into array_elements (task_id, index, org_id, project_id, retries)
   select $1, c.index, $2, $3, c.retries from unnest($4::int[], $5::int[]) as c(index, retries)
   on conflict (task_id, index) do update set retries = excluded.retries`,
);

/**
 * Folds ended ranges into their arrays' rows: only the leader does it, so that a row of a million elements is written
 * once a cycle, whatever the number of workers. Cancelled arrays give up what waits. Answers the arrays it changed.
 */
export async function foldArrays(
  tx: Tx,
  at: { leaderEpoch: bigint; nowMs: number; cancelled: readonly TaskId[] },
): Promise<{ changed: readonly TaskId[]; ended: readonly TaskId[] }> {
  const unfolded = await readUnfolded(tx);
  const ids = [...new Set([...unfolded.map((attempt) => attempt.task), ...at.cancelled])];
  if (ids.length === 0) return { changed: [], ended: [] };
  await assertLeader(tx, cycleLeader, at.leaderEpoch);
  const attempts = Map.groupBy(unfolded, (attempt) => attempt.task);
  const changes: TaskChange[] = [];
  const events: NewEvent[] = [];
  for (const task of await lockTasks(tx, ids.toSorted())) {
    if (task.array === undefined || isTerminal(task.state)) continue;
    const change = await foldArray(tx, {
      task,
      attempts: attempts.get(task.id) ?? [],
      nowMs: at.nowMs,
    });
    changes.push(change);
    events.push(...taskMoved(task, change, at.nowMs));
  }
  await updateTasks(tx, changes);
  await storeFolded(
    tx,
    unfolded.map((attempt) => attempt.id),
  );
  await appendEvents(tx, events);
  const ended = changes.filter((change) => isTerminal(change.state)).map((change) => change.id);
  return { changed: changes.map((change) => change.id), ended };
}

async function foldArray(
  tx: Querier,
  of: { task: StoredTask; attempts: readonly StoredAttempt[]; nowMs: number },
): Promise<TaskChange> {
  const { task, attempts, nowMs } = of;
  let sets: ArraySets = task.array ?? emptySets;
  let lastClass: ExitClass | undefined;
  for (const attempt of attempts) {
    for (const [exitClass, elements] of resultsOf(attempt)) {
      sets = await foldResult(tx, { task, sets, exitClass, elements });
      if (exitClass !== "ok") lastClass = exitClass;
    }
  }
  if (task.cancelRequested) sets = withoutPending(sets);
  const preempted = attempts.filter((each) => wasPreempted(each, each.exitClass)).length;
  const change = finish(task, { sets, lastClass, nowMs });
  return preempted === 0 ? change : { ...change, preemptions: task.preemptions + preempted };
}

const emptySets: ArraySets = { pending: [], leased: [], succeeded: [], failed: [], cancelled: [] };

/** Elements by class; those that the worker did not report have the attempt's own class. */
function resultsOf(attempt: StoredAttempt): [ExitClass, IndexSet][] {
  const all = attempt.elements ?? [];
  const results = Object.entries(attempt.elementResults ?? {}) as [ExitClass, IndexSet][];
  const reported = indexSet(results.flatMap(([, set]) => set));
  const own = results.map(([exitClass, set]): [ExitClass, IndexSet] => [
    exitClass,
    subtractIndices(set, subtractIndices(set, all)),
  ]);
  const silent = subtractIndices(all, reported);
  const fallback =
    attempt.exitClass === undefined || attempt.exitClass === "ok" ? "node_lost" : attempt.exitClass;
  return silent.length === 0 ? own : [...own, [fallback, silent]];
}

async function foldResult(
  tx: Querier,
  of: { task: StoredTask; sets: ArraySets; exitClass: ExitClass; elements: IndexSet },
): Promise<ArraySets> {
  const { task, exitClass, elements } = of;
  const sets = { ...of.sets, leased: subtractIndices(of.sets.leased, elements) };
  const fresh = decideRetry(exitClass, { retries: 0, freeRequeues: 0 }, task.retry);
  switch (fresh.kind) {
    case "succeed":
      return { ...sets, succeeded: unionIndices(sets.succeeded, elements) };
    case "cancel":
      return { ...sets, cancelled: unionIndices(sets.cancelled, elements) };
    case "fail":
      return { ...sets, failed: unionIndices(sets.failed, elements) };
    case "requeue": {
      if (task.cancelRequested) {
        return { ...sets, cancelled: unionIndices(sets.cancelled, elements) };
      }
      if (!fresh.costsRetry) return { ...sets, pending: unionIndices(sets.pending, elements) };
      return retryElements(tx, { ...of, sets });
    }
  }
}

async function retryElements(
  tx: Querier,
  of: { task: StoredTask; sets: ArraySets; exitClass: ExitClass; elements: IndexSet },
): Promise<ArraySets> {
  const { task, sets, exitClass } = of;
  const indices = of.elements.flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i),
  );
  const uuid = idToUuid(task.id);
  const rows = await tx.query(readRetries, [indices.map(() => uuid), indices]);
  const spent = new Map(rows.map((row) => [row.index, row.retries]));
  const again: number[] = [];
  const over: number[] = [];
  for (const index of indices) {
    const counts = { retries: spent.get(index) ?? 0, freeRequeues: 0 };
    (decideRetry(exitClass, counts, task.retry).kind === "requeue" ? again : over).push(index);
  }
  if (again.length > 0) {
    const retries = again.map((index) => (spent.get(index) ?? 0) + 1);
    const owner = [idToUuid(task.org), idToUuid(task.project)];
    await tx.query(writeRetries, [uuid, ...owner, again, retries]);
  }
  const asSet = (list: number[]) => indexSet(list.map((index) => ({ first: index, last: index })));
  return {
    ...sets,
    pending: unionIndices(sets.pending, asSet(again)),
    failed: unionIndices(sets.failed, asSet(over)),
  };
}

function finish(
  task: StoredTask,
  of: { sets: ArraySets; lastClass: ExitClass | undefined; nowMs: number },
): TaskChange {
  const { sets, lastClass, nowMs } = of;
  const base = { id: task.id, prevState: task.state, state: task.state, array: sets };
  if (sets.leased.length > 0) return base;
  if (sets.pending.length > 0) {
    // Nothing runs but something waits: it is in line again, from wherever it stood.
    return task.state === "QUEUED" ? base : { ...base, state: "QUEUED", queueReason: "PENDING" };
  }
  const [end, exitClass] = outcome(sets, lastClass);
  const via = pathTo(task.state, end);
  return {
    ...base,
    prevState: via,
    state: end,
    exitClass,
    endedMs: nowMs,
    statusMessage: summary(sets),
  };
}

function outcome(sets: ArraySets, lastClass: ExitClass | undefined): [TaskState, ExitClass] {
  if (sets.cancelled.length > 0) return ["CANCELLED", "cancelled"];
  if (sets.failed.length > 0) return ["FAILED", lastClass ?? "user_exit"];
  return ["SUCCEEDED", "ok"];
}

/** The last state before `to`: a range may end before its start was told, but what ended had run. */
function pathTo(from: TaskState, to: TaskState): TaskState {
  return taskTransitions[from].includes(to) ? from : "RUNNING";
}

function summary(sets: ArraySets): string {
  const parts = [
    [countIndices(sets.succeeded), "succeeded"],
    [countIndices(sets.failed), "failed"],
    [countIndices(sets.cancelled), "cancelled"],
  ] as const;
  return parts
    .filter(([count]) => count > 0)
    .map(([count, word]) => `${count} ${word}`)
    .join(", ");
}
