/** Figures that experiments share. */
import { availableParallelism, loadavg } from "node:os";

/** A value of sorted numbers by rank, 0 … 1; 0 where there are none. */
export function quantile(sorted: readonly number[], rank: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(rank * sorted.length))] ?? 0;
}

/** The median of an odd number, the upper one of an even number. */
export function median(values: readonly number[]): number {
  return quantile(
    values.toSorted((a, b) => a - b),
    0.5,
  );
}

/** CPU time of this thread so far, in milliseconds. */
export function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** The machine, with its load before (what `loadavg` said then) and now. */
export function machineSince(before: readonly number[]) {
  return { cores: availableParallelism(), load: { before, after: loadavg() } };
}

/** A line that says whether a goal was met. */
export function verdict(met: boolean, goal: string, value: string): string {
  return `${met ? "met " : "MISS"}  ${goal}: ${value}\n`;
}
