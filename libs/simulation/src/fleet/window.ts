import { Behind, planWindow, tasksPerLine } from "@fastgpu/scheduling/line-window";
import type { PlanTask, PlanWanted } from "@fastgpu/scheduling/plan";
import type { TaskRun } from "./task-run.ts";

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
    if (waiting.size <= planWindow.perLine) {
      return { tasks: Array.from(waiting.values(), (task) => task.plan()), behind: [] };
    }
    const most = this.mostOfLine(waiting);
    const seen = new Int32Array(this.lines);
    const tasks: PlanTask[] = [];
    const behind = new Behind();
    for (const task of waiting.values()) {
      const { org, project, spec } = task;
      const line = this.lineOf.get(task);
      if (line === undefined || task.epoch > 1 || seen[line]!++ < most) tasks.push(task.plan());
      else behind.add({ org, project, user: spec.user }, spec);
    }
    return { tasks, behind: behind.all() };
  }

  private mostOfLine(waiting: ReadonlyMap<unknown, TaskRun>): number {
    if (waiting.size <= planWindow.tasks) return planWindow.perLine;
    const present = new Set<number | undefined>();
    for (const task of waiting.values()) present.add(this.lineOf.get(task));
    return tasksPerLine(present.size);
  }
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
