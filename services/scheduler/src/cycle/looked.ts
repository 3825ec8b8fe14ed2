import type { TaskId } from "@fastgpu/domain/ids";

/** The newest revisions of tasks that the cycle has read and acted upon. */
export interface Looked {
  note(id: TaskId, revision: number): void;
  /** Whether this revision, or a later one, was acted upon. False where it is not remembered. */
  covers(id: TaskId, revision: bigint): boolean;
}

const remembered = 20_000;

/**
 * Our own log tells of every change, also of those that a local signal has told of already: with this memory the
 * second news costs no read. Forgetting is harmless, it only costs that read.
 */
export function createLooked(limit = remembered): Looked {
  const revisions = new Map<TaskId, number>();
  return {
    note(id, revision) {
      revisions.delete(id);
      revisions.set(id, revision);
      if (revisions.size <= limit) return;
      for (const oldest of revisions.keys()) {
        revisions.delete(oldest);
        return;
      }
    },
    covers: (id, revision) => BigInt(revisions.get(id) ?? 0) >= revision,
  };
}
