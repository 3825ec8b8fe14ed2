import { uuidToId } from "@fastgpu/domain/ids";
import type { Backlog } from "@fastgpu/scheduling/backlog/backlog";
import { tasksPerLine, type WindowBounds } from "@fastgpu/scheduling/line-window";
import { plainTask, type PlanTask, type PlanWanted } from "@fastgpu/scheduling/plan";
import type { Leaf, TaskClass } from "../store/fresh.ts";
import type { Numbers } from "./numbers.ts";

/** A plan's view of the columns: the first tasks of every line. Kept from plan to plan, read again where it changed. */
export interface Window {
  /** A task came into the columns. */
  added(row: number): void;
  /** A task is about to leave them. */
  removed(row: number): void;
  /** The task of a row. */
  task(row: number): PlanTask;
  /** The same task is the same object for as long as it is in view. */
  tasks(): readonly PlanTask[];
  /** What waits out of view, by leaf. */
  behind(): readonly PlanWanted[];
}

/** What a task that never ran has behind it. */
const noPast = {
  ...plainTask,
  epoch: 0,
  notBeforeMs: 0,
  excludedGpus: [],
  array: undefined,
} as const satisfies Partial<PlanTask>;

/** What tasks want together. */
interface Sum {
  tasks: number;
  gpus: number;
  /** Of those without GPUs. */
  cpuMillis: number;
}

function addTo(
  sum: Sum,
  { demand, replicas }: Pick<PlanTask, "demand" | "replicas">,
  sign: 1 | -1,
) {
  sum.tasks += sign;
  sum.gpus += sign * replicas * demand.gpuCount;
  if (demand.gpuCount === 0) sum.cpuMillis += sign * replicas * demand.cpuMillis;
}

/** Lines of one leaf, and all that it wants. */
interface LeafLines {
  /** Numbers of lines that hold tasks: higher priority first, then the one that was there first. */
  readonly lines: number[];
  readonly all: Sum;
}

/** The window of a backlog whose queues are `leaves` and whose classes are `classes`. */
export function createWindow(
  columns: Backlog,
  of: { classes: Numbers<TaskClass>; leaves: Numbers<Leaf>; bounds: WindowBounds },
): Window {
  const { classes, leaves, bounds } = of;
  const byLeaf = new Map<number, LeafLines>();
  const byRow = new Map<number, PlanTask>();
  const byLine = new Map<number, readonly PlanTask[]>();
  let lines = 0;
  let shown: readonly PlanTask[] | undefined = [];
  let perLine = bounds.perLine;

  const priorityOf = (line: number): number => classes.get(columns.lineAt(line).classId).priority;
  const goesBefore = (line: number, other: number): boolean => {
    const higher = priorityOf(line) - priorityOf(other);
    return higher > 0 || (higher === 0 && line < other);
  };
  const count = (row: number, sign: 1 | -1): LeafLines => {
    const { queueId, classId } = columns.lineAt(columns.lineOf(row));
    const leaf = byLeaf.get(queueId) ?? { lines: [], all: { tasks: 0, gpus: 0, cpuMillis: 0 } };
    byLeaf.set(queueId, leaf);
    addTo(leaf.all, classes.get(classId), sign);
    return leaf;
  };
  const make = (row: number): PlanTask => {
    const { uuid, queueId, classId, submittedMs } = columns.get(row);
    const id = uuidToId("task", uuid);
    const kind = { ...classes.get(classId), ...leaves.get(queueId) };
    return { ...noPast, ...kind, id, submittedMs };
  };
  const toTask = (row: number): PlanTask => {
    const known = byRow.get(row) ?? make(row);
    byRow.set(row, known);
    return known;
  };
  const read = (line: number): readonly PlanTask[] => {
    const known = byLine.get(line);
    if (known !== undefined) return known;
    const tasks: PlanTask[] = [];
    for (const row of columns.rowsOf(columns.lineAt(line))) {
      if (tasks.length === perLine) break;
      tasks.push(toTask(row));
    }
    byLine.set(line, tasks);
    return tasks;
  };
  const show = (): readonly PlanTask[] => {
    const fits = tasksPerLine(lines, bounds);
    if (fits !== perLine) {
      perLine = fits;
      byLine.clear();
      byRow.clear();
    }
    const linesPerLeaf = Math.max(1, Math.floor(bounds.tasks / Math.max(1, byLeaf.size)));
    const all = lines <= bounds.tasks;
    const picked = [...byLeaf.values()].flatMap((leaf) =>
      all ? leaf.lines : leaf.lines.slice(0, linesPerLeaf),
    );
    return picked.flatMap(read);
  };
  return {
    added(row) {
      const leaf = count(row, 1);
      const line = columns.lineOf(row);
      const { length } = columns.lineAt(line);
      if (length > perLine && byLine.has(line)) return;
      byLine.delete(line);
      shown = undefined;
      if (length > 1) return;
      lines += 1;
      // From the end: a new line mostly belongs there.
      let at = leaf.lines.length;
      while (at > 0 && goesBefore(line, leaf.lines[at - 1]!)) at--;
      leaf.lines.splice(at, 0, line);
    },
    removed(row) {
      const leaf = count(row, -1);
      const line = columns.lineOf(row);
      byRow.delete(row);
      byLine.delete(line);
      shown = undefined;
      const { length, queueId } = columns.lineAt(line);
      if (length > 1) return;
      lines -= 1;
      leaf.lines.splice(leaf.lines.indexOf(line), 1);
      if (leaf.lines.length === 0) byLeaf.delete(queueId);
    },
    task: (row) => byRow.get(row) ?? make(row),
    tasks: () => (shown ??= show()),
    behind: () =>
      outOfView(
        [...byLeaf].map(([leaf, { all }]) => [leaves.get(leaf), all]),
        (shown ??= show()),
      ),
  };
}

/** What each leaf wants beside the tasks in view. */
function outOfView(
  leaves: readonly (readonly [Leaf, Sum])[],
  inView: readonly PlanTask[],
): PlanWanted[] {
  const keyOf = ({ project, user }: Pick<Leaf, "project" | "user">): string => `${project} ${user}`;
  const seen = new Map<string, Sum>();
  for (const task of inView) {
    const sum = seen.get(keyOf(task)) ?? { tasks: 0, gpus: 0, cpuMillis: 0 };
    seen.set(keyOf(task), sum);
    addTo(sum, task, 1);
  }
  return leaves.flatMap(([leaf, all]) => {
    const shown = seen.get(keyOf(leaf));
    if (shown === undefined || shown.tasks === all.tasks) return [];
    const [tasks, gpus] = [all.tasks - shown.tasks, all.gpus - shown.gpus];
    return [{ ...leaf, tasks, gpus, cpuMillis: all.cpuMillis - shown.cpuMillis }];
  });
}
