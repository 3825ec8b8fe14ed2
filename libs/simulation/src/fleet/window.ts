import type { PlanTask, PlanWanted } from "@fastgpu/scheduling/plan";
import type { TaskRun } from "./task-run.ts";

/** Bounds of the leader's window (docs/decisions/waiting-tasks.md): tasks of one line, and in all. */
const perLine = 256;
const inAll = 16_384;

/** What a plan sees of the line-up. */
export interface Window {
  readonly tasks: readonly PlanTask[];
  /** What waits out of view, by organisation, project and user. */
  readonly behind: readonly PlanWanted[];
}

/**
 * The leader's view of what waits: the first tasks of every line (owner × needs), and the sum of those behind them. What
 * ran before, has a time to wait for, or is an array is always in view.
 */
export class WindowView {
  private readonly lineOf = new Map<TaskRun, number>();
  private readonly lines: number;

  constructor(tasks: readonly TaskRun[]) {
    const numbers = new Map<string, number>();
    for (const task of tasks) {
      if (task.spec.array !== undefined) continue;
      const key = keyOf(task);
      let line = numbers.get(key);
      if (line === undefined) numbers.set(key, (line = numbers.size));
      this.lineOf.set(task, line);
    }
    this.lines = numbers.size;
  }

  /** The view of these tasks, which come in the order in which they began to wait. */
  of(waiting: ReadonlyMap<unknown, TaskRun>): Window {
    if (waiting.size <= perLine) {
      return { tasks: Array.from(waiting.values(), (task) => task.plan()), behind: [] };
    }
    const most = this.mostOfLine(waiting);
    const seen = new Int32Array(this.lines);
    const tasks: PlanTask[] = [];
    const behind = new Map<string, Mutable<PlanWanted>>();
    for (const task of waiting.values()) {
      const line = this.lineOf.get(task);
      if (line === undefined || task.epoch > 1 || seen[line]!++ < most) tasks.push(task.plan());
      else addBehind(behind, task);
    }
    return { tasks, behind: [...behind.values()] };
  }

  /** In powers of two, so that one line more does not change all others. */
  private mostOfLine(waiting: ReadonlyMap<unknown, TaskRun>): number {
    if (waiting.size <= inAll) return perLine;
    const present = new Set<number | undefined>();
    for (const task of waiting.values()) present.add(this.lineOf.get(task));
    return Math.min(perLine, 2 ** Math.floor(Math.log2(Math.max(1, inAll / present.size))));
  }
}

type Mutable<Type> = { -readonly [Key in keyof Type]: Type[Key] };

function addBehind(behind: Map<string, Mutable<PlanWanted>>, task: TaskRun): void {
  const { org, project, spec } = task;
  const key = `${project} ${spec.user}`;
  let sum = behind.get(key);
  if (sum === undefined) {
    sum = { org, project, user: spec.user, tasks: 0, gpus: 0, cpuMillis: 0 };
    behind.set(key, sum);
  }
  sum.tasks++;
  sum.gpus += task.gpus;
  if (task.gpus === 0) sum.cpuMillis += spec.replicas * spec.demand.cpuMillis;
}

function keyOf({ project, spec }: TaskRun): string {
  const { user, demand, replicas, topology, priority, preemptible, stopGraceMs, maxRuntimeMs } =
    spec;
  return JSON.stringify([
    project,
    user,
    Object.values(demand),
    replicas,
    topology,
    priority,
    preemptible,
    stopGraceMs,
    String(maxRuntimeMs),
  ]);
}
