import { countIndices } from "@fastgpu/domain/index-set";
import { idToUuid, type TaskId } from "@fastgpu/domain/ids";
import { Backlog } from "@fastgpu/scheduling/backlog/backlog";
import { planWindow, type WindowBounds } from "@fastgpu/scheduling/line-window";
import type { PlanTask, PlanWanted } from "@fastgpu/scheduling/plan";
import type { StoredTask } from "../store/tasks.ts";
import type { FreshTask, Leaf, TaskClass } from "../store/fresh.ts";
import { isInLine } from "../transition/in-line.ts";
import type { Past } from "./past.ts";
import { createNumbers } from "./numbers.ts";
import { createWindow } from "./window.ts";

/**
 * The tasks that could be placed now. One that never ran is a row of columns: a million of them take some 45 MB. What
 * has a past (a retry, a preemption), a time to wait for or elements is kept by itself.
 */
export interface WaitingTasks {
  readonly size: number;
  /** Takes a task as it was read: puts it in line, changes it there, or takes it out where it does not wait. */
  put(task: StoredTask, past: Past): void;
  /** Puts tasks in line that never ran, all at once. */
  putFresh(tasks: readonly FreshTask[]): void;
  delete(id: TaskId): void;
  get(id: TaskId): PlanTask | undefined;
  clear(): void;
  /** What a plan looks at: the first tasks of every line. The same task is the same object until it changes. */
  window(): readonly PlanTask[];
  /** What waits behind the window, by leaf. */
  behind(): readonly PlanWanted[];
  /** The first moment after `nowMs` at which a task that waits for a time may start; Infinity where none does. */
  nextStartMs(nowMs: number): number;
  /** A digest of all that waits: equal in a picture rebuilt from the database. */
  hash(): string;
}

/** An empty line-up. */
export function createWaitingTasks(bounds: WindowBounds = planWindow): WaitingTasks {
  const columns = new Backlog();
  const apart = new Map<TaskId, PlanTask>();
  const classes = createNumbers<TaskClass>();
  const leaves = createNumbers<Leaf>();
  const window = createWindow(columns, { classes, leaves, bounds });

  const remove = (id: TaskId): void => {
    apart.delete(id);
    const uuid = hexOf(id);
    const row = columns.find(uuid);
    if (row === undefined) return;
    window.removed(row);
    columns.remove(uuid);
  };
  const add = (task: { uuid: string; submittedMs: number; leaf: number; class: number }): void => {
    const { uuid, submittedMs } = task;
    const row = columns.add({ uuid, submittedMs, queueId: task.leaf, classId: task.class });
    if (row !== undefined) window.added(row);
  };
  return {
    get size() {
      return columns.size + apart.size;
    },
    put(task, past) {
      const plan = toPlanTask(task, past);
      if (plan === undefined) remove(task.id);
      else if (isFresh(task, past)) {
        apart.delete(task.id);
        const { org, project, user } = task;
        const leaf = leaves.of({ org, project, user });
        const uuid = hexOf(task.id);
        add({ uuid, submittedMs: plan.submittedMs, leaf, class: classes.of(classOf(plan)) });
      } else {
        remove(task.id);
        apart.set(task.id, plan);
      }
    },
    putFresh(tasks) {
      for (const { uuid, submittedMs, leaf, class: kind } of tasks) {
        add({ uuid, submittedMs, leaf: leaves.of(leaf), class: classes.of(kind) });
      }
    },
    delete: remove,
    get(id) {
      const row = columns.find(hexOf(id));
      return row === undefined ? apart.get(id) : window.task(row);
    },
    clear() {
      apart.clear();
      for (const line of columns.heads()) {
        for (const row of [...columns.rowsOf(line)]) {
          window.removed(row);
          columns.remove(columns.get(row).uuid);
        }
      }
    },
    window: () => [...window.tasks(), ...apart.values()],
    behind: () => window.behind(),
    nextStartMs(nowMs) {
      let next = Number.POSITIVE_INFINITY;
      for (const { notBeforeMs } of apart.values()) {
        if (notBeforeMs > nowMs) next = Math.min(next, notBeforeMs);
      }
      return next;
    },
    hash() {
      const keys = new Map<string, number>();
      const inColumns = columns.hash((queueId, classId) => {
        const key = `${leaves.keyOf(queueId)} ${classes.keyOf(classId)}`;
        let digest = keys.get(key);
        if (digest === undefined) keys.set(key, (digest = hashText(key)));
        return digest;
      });
      const others = [...apart.values()].map((task) => JSON.stringify(task)).toSorted();
      return `${inColumns}-${(hashText(others.join()) >>> 0).toString(16).padStart(8, "0")}`;
    },
  };
}

/** Whether a task is like any other of its class but for its age. */
function isFresh(task: StoredTask, past: Past): boolean {
  const plain = task.array === undefined && task.notBeforeMs === 0;
  return plain && task.attemptCount === 0 && past.gpuMs === 0 && past.preemptions === 0;
}

/** The task for the planner, or undefined where nothing of it can be placed. */
function toPlanTask(task: StoredTask, past: Past): PlanTask | undefined {
  if (!isInLine(task)) return undefined;
  return {
    id: task.id,
    org: task.org,
    project: task.project,
    user: task.user,
    epoch: task.epoch,
    priority: task.priority,
    submittedMs: task.submittedMs ?? task.createdMs,
    notBeforeMs: task.notBeforeMs,
    demand: task.demand,
    replicas: task.replicas,
    topology: task.topology,
    stopGraceMs: task.stopGraceMs,
    maxRuntimeMs: task.maxRuntimeMs,
    preemptible: task.preemptible,
    preemptions: past.preemptions,
    attainedGpuMs: past.gpuMs,
    heldMs: past.heldMs,
    excludedGpus: task.excludedGpus,
    array:
      task.array === undefined
        ? undefined
        : { pending: countIndices(task.array.pending), leasesLeft: task.array.parallelism },
  };
}

function classOf(task: PlanTask): TaskClass {
  const { demand, replicas, topology, preemptible, priority, stopGraceMs, maxRuntimeMs } = task;
  return { demand, replicas, topology, preemptible, priority, stopGraceMs, maxRuntimeMs };
}

const hexOf = (id: TaskId): string => idToUuid(id).replaceAll("-", "");

/** FNV-1a, 32 bits. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  return hash;
}
