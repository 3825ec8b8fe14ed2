import { readFileSync } from "node:fs";
import { uptime } from "node:os";

/** Milliseconds since boot, counting suspend: the one clock that worker and keeper share. Resolution 10 ms. */
export function bootMs(): number {
  return Math.round(uptime() * 1000);
}

const freshForMs = 100;
let read = { bootMs: 0, atMs: Number.NEGATIVE_INFINITY };

/**
 * The same, read from the system at most ten times a second and counted on between: for the ages of reports, of which
 * there are thousands a second. A suspend shows up to 100 ms late; decisions about leases use {@link bootMs}.
 */
export function recentBootMs(): number {
  const nowMs = performance.now();
  if (nowMs - read.atMs > freshForMs) read = { bootMs: bootMs(), atMs: nowMs };
  return Math.round(read.bootMs + nowMs - read.atMs);
}

let known: string | undefined;

/** Identifies this boot of the machine: times of {@link bootMs} mean nothing in another one. */
export function bootId(): string {
  known ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return known;
}
