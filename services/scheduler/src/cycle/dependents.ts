import type { TaskId } from "@fastgpu/domain/ids";
import { isTerminal, type TaskState } from "@fastgpu/domain/states";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents, type NewEvent } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import {
  readOpenDependencies,
  storeResolved,
  type Condition,
  type StoredDependency,
} from "../store/dependencies.ts";
import { lockTasks, updateTasks, type StoredTask, type TaskChange } from "../store/tasks.ts";
import { taskMoved } from "../transition/events.ts";
import { withoutPending } from "../transition/in-line.ts";
import { cycleLeader } from "./commit.ts";

/** Whether a parent's terminal state meets a condition. */
export function meets(condition: Condition, state: TaskState): boolean {
  switch (condition) {
    case "SUCCEEDED":
      return state === "SUCCEEDED";
    case "FAILED":
      return state === "FAILED" || state === "CANCELLED";
    case "ENDED":
      return isTerminal(state);
  }
}

/**
 * Unlocks tasks whose parents have ended as asked, and fails those whose condition can no longer be met
 * (class `dependency`), which may cascade: call again with the failed ones. Locks parents and children in order of id.
 */
export async function resolveDependents(
  tx: Tx,
  ended: readonly TaskId[],
  at: { leaderEpoch: bigint; nowMs: number },
): Promise<{ changed: readonly TaskId[]; failed: readonly TaskId[] }> {
  const open = await readOpenDependencies(tx, ended);
  if (open.length === 0) return { changed: [], failed: [] };
  await assertLeader(tx, cycleLeader, at.leaderEpoch);
  const ids = new Set(open.flatMap((dependency) => [dependency.task, dependency.parent]));
  const tasks = new Map((await lockTasks(tx, [...ids].toSorted())).map((task) => [task.id, task]));
  const changes: TaskChange[] = [];
  const events: NewEvent[] = [];
  for (const [id, dependencies] of Map.groupBy(open, (dependency) => dependency.task)) {
    const task = tasks.get(id);
    if (task === undefined || task.state !== "QUEUED") continue;
    const change = resolveOne(task, dependencies, { tasks, nowMs: at.nowMs });
    if (change === undefined) continue;
    changes.push(change);
    events.push(...taskMoved(task, change, at.nowMs));
  }
  // A draft is looked at when it is submitted; for a task that has ended nothing is left to wait for.
  const settled = open.filter((dependency) => {
    const parent = tasks.get(dependency.parent);
    const state = tasks.get(dependency.task)?.state;
    return state !== "DRAFT" && parent !== undefined && isTerminal(parent.state);
  });
  await storeResolved(tx, settled);
  await updateTasks(tx, changes);
  await appendEvents(tx, events);
  return {
    changed: changes.map((change) => change.id),
    failed: changes.filter((change) => change.state === "FAILED").map((change) => change.id),
  };
}

function resolveOne(
  task: StoredTask,
  dependencies: readonly StoredDependency[],
  at: { tasks: ReadonlyMap<TaskId, StoredTask>; nowMs: number },
): TaskChange | undefined {
  let met = 0;
  for (const { parent, condition } of dependencies) {
    const state = at.tasks.get(parent)?.state;
    if (state === undefined || !isTerminal(state)) continue;
    if (meets(condition, state)) {
      met += 1;
      continue;
    }
    return {
      id: task.id,
      prevState: "QUEUED",
      state: "FAILED",
      exitClass: "dependency",
      statusMessage: `${parent} ended as ${state}, but ${condition} was asked for`,
      endedMs: at.nowMs,
      ...(task.array === undefined ? {} : { array: withoutPending(task.array) }),
    };
  }
  if (met === 0) return undefined;
  const waitingFor = Math.max(0, task.waitingFor - met);
  return {
    id: task.id,
    prevState: "QUEUED",
    state: "QUEUED",
    waitingFor,
    ...(waitingFor === 0 ? { queueReason: "PENDING", statusMessage: "" } : {}),
  };
}
