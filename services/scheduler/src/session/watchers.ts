import type { TaskId } from "@fastgpu/domain/ids";

/** Who waits for a change of a task on this replica. */
export interface Watchers {
  /** Wakes everybody who waits for these tasks. */
  notify(tasks: Iterable<TaskId>): void;
  /** Resolves at the next change of the task, after `pollMs` at the latest, or when `signal` aborts. */
  changed(task: TaskId, options: { pollMs: number; signal: AbortSignal }): Promise<void>;
}

/** An empty set of watchers. A notice may be lost (another replica made the change): hence the poll. */
export function createWatchers(): Watchers {
  const waiting = new Map<TaskId, Set<() => void>>();
  return {
    notify(tasks) {
      for (const task of tasks) for (const wake of waiting.get(task) ?? []) wake();
    },
    changed(task, { pollMs, signal }) {
      if (signal.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const set = waiting.get(task) ?? new Set();
        waiting.set(task, set);
        const finish = (): void => {
          clearTimeout(timer);
          signal.removeEventListener("abort", finish);
          set.delete(finish);
          if (set.size === 0) waiting.delete(task);
          resolve();
        };
        const timer = setTimeout(finish, pollMs);
        signal.addEventListener("abort", finish, { once: true });
        set.add(finish);
      });
    },
  };
}
