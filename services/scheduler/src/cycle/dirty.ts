import type { NodeId, TaskId } from "@fastgpu/domain/ids";

/** What has changed since the leader last looked. Ids only: the truth is read from the database. */
export interface Dirty {
  /** Marks tasks, nodes, or both, and wakes the cycle. */
  mark(changed: { tasks?: Iterable<TaskId>; nodes?: Iterable<NodeId> }): void;
  /** Marks nodes for the next cycle without asking for one. */
  noteNodes(ids: Iterable<NodeId>): void;
  /** Takes at most `limit` marked tasks and all marked nodes; `more` says whether tasks are left. */
  drain(limit: number): { tasks: TaskId[]; nodes: NodeId[]; more: boolean };
  /** Forgets all marks: a new leader reads everything. */
  clear(): void;
  /** Called on each mark. */
  onMark: (() => void) | undefined;
}

/** An empty set of marks. */
export function createDirty(): Dirty {
  const tasks = new Set<TaskId>();
  const nodes = new Set<NodeId>();
  const dirty: Dirty = {
    onMark: undefined,
    mark(changed) {
      for (const id of changed.tasks ?? []) tasks.add(id);
      for (const id of changed.nodes ?? []) nodes.add(id);
      dirty.onMark?.();
    },
    noteNodes(ids) {
      for (const id of ids) nodes.add(id);
    },
    drain(limit) {
      const taken: TaskId[] = [];
      for (const id of tasks) {
        if (taken.length >= limit) break;
        taken.push(id);
        tasks.delete(id);
      }
      const takenNodes = [...nodes];
      nodes.clear();
      return { tasks: taken, nodes: takenNodes, more: tasks.size > 0 };
    },
    clear() {
      tasks.clear();
      nodes.clear();
    },
  };
  return dirty;
}
