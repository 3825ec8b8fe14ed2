import type { TaskId } from "@fastgpu/domain/ids";
import { Behind, planWindow, tasksPerLine } from "../line-window.ts";
import type { PlanState, PlanTask } from "../plan.ts";

const { tasks: inAll } = planWindow;

/**
 * What a plan of the leader looks at of a long line: the first tasks of every line (owner × needs), and the sum of those
 * behind them. What ran before, has a time to wait for, or is an array is always in view. A line of no more tasks than the
 * window holds is looked at whole.
 */
export class LineView {
  /** By task of the state that it was made of: its line, and its place by submit. */
  private readonly lines = new Map<TaskId, number>();
  private readonly leaves: Leaf[] = [];

  constructor({ tasks }: PlanState) {
    if (tasks.length <= inAll) return;
    const numbers = new Map<string, number>();
    const keys = new WeakMap<PlanTask["demand"], string>();
    const leaves = new Map<string, Leaf>();
    const bySubmit = tasks.toSorted((a, b) => a.submittedMs - b.submittedMs);
    for (const task of bySubmit) {
      if (isAlone(task)) continue;
      const key = keyOf(task, keys);
      let line = numbers.get(key);
      if (line === undefined) {
        numbers.set(key, (line = numbers.size));
        const owner = `${task.project} ${task.user}`;
        let leaf = leaves.get(owner);
        if (leaf === undefined) leaves.set(owner, (leaf = { lines: [] }));
        leaf.lines.push({ line, priority: task.priority });
      }
      this.lines.set(task.id, line);
    }
    this.leaves = [...leaves.values()];
    for (const { lines } of this.leaves) lines.sort((a, b) => b.priority - a.priority);
  }

  /** What a plan sees of a later state of the same line, with these tasks in it. */
  of(state: PlanState, kept?: TaskId): PlanState {
    const { tasks } = state;
    if (tasks.length <= inAll || this.lines.size === 0) return state;
    const counts = new Int32Array(this.lines.size);
    for (const { id } of tasks) {
      const line = this.lines.get(id);
      if (line !== undefined) counts[line]!++;
    }
    const { most, shown } = this.bounds(counts);
    const seen = new Int32Array(counts.length);
    const inView: PlanTask[] = [];
    const behind = new Behind();
    // The line of the state is that of the submits, but for what came back.
    for (const task of tasks) {
      const line = isAlone(task) ? undefined : this.lines.get(task.id);
      const isSeen = line === undefined || (shown[line] === 1 && seen[line]!++ < most);
      if (isSeen || task.id === kept) inView.push(task);
      else behind.add(task, task);
    }
    return { ...state, tasks: inView, behind: [...(state.behind ?? []), ...behind.all()] };
  }

  /** How many tasks are seen of a line, and which lines: where there are too many, the first of each queue. */
  private bounds(counts: Int32Array): { most: number; shown: Uint8Array } {
    const shown = new Uint8Array(counts.length);
    const present = this.leaves.map(({ lines }) => lines.filter(({ line }) => counts[line]! > 0));
    const held = present.filter(({ length }) => length > 0);
    const number = held.reduce((sum, { length }) => sum + length, 0);
    const ofLeaf = Math.max(1, Math.floor(inAll / Math.max(1, held.length)));
    for (const lines of held) {
      for (const { line } of number <= inAll ? lines : lines.slice(0, ofLeaf)) shown[line] = 1;
    }
    return { most: tasksPerLine(number), shown };
  }
}

interface Leaf {
  readonly lines: { readonly line: number; readonly priority: number }[];
}

const isAlone = ({ epoch, notBeforeMs, array, preemptions, attainedGpuMs }: PlanTask): boolean =>
  epoch > 0 || notBeforeMs > 0 || array !== undefined || preemptions > 0 || attainedGpuMs > 0;

function keyOf(task: PlanTask, keys: WeakMap<PlanTask["demand"], string>): string {
  const { project, user, demand, replicas, topology, priority, preemptible, maxRuntimeMs } = task;
  let key = keys.get(demand);
  if (key === undefined) keys.set(demand, (key = JSON.stringify(Object.values(demand))));
  return `${project} ${user} ${key} ${replicas} ${topology.within} ${topology.spreadOver} ${priority} ${preemptible} ${maxRuntimeMs}`;
}
