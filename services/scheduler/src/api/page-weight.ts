import type { StoredTask } from "../store/tasks.ts";

/** What the rows of one page weigh at most, in bytes: a message holds 4 MiB, and weights are estimates. */
const pageBytes = 3 * 2 ** 20;
/** A GPU on the wire: its name, its model. */
const gpuBytes = 128;

/** Number of rows that make a page: at most `size`, together no more than a message holds, and at least one. */
export function rowsWithin<T>(
  rows: readonly T[],
  size: number,
  bytesOf: (row: T) => number,
): number {
  let left = pageBytes;
  const over = rows.findIndex((row) => (left -= bytesOf(row)) < 0);
  return Math.max(1, over < 0 ? size : Math.min(size, over));
}

/** What a task weighs in an answer: its spec may be large, and a gang's GPUs many. */
export function taskBytes({ spec, labels, demand, replicas }: StoredTask): number {
  const labelBytes = Object.entries(labels).reduce((sum, [k, v]) => sum + k.length + v.length, 0);
  return 1_024 + spec.length + labelBytes + gpuBytes * demand.gpuCount * replicas;
}

/** What an attempt of a task weighs: a gang's lists its members, and GPUs with them and by themselves. */
export function attemptBytes({ demand, replicas }: StoredTask): number {
  return 1_024 + replicas * (256 + 2 * gpuBytes * demand.gpuCount);
}
