import { readFileSync } from "node:fs";
import { uptime } from "node:os";

/** Milliseconds since boot, counting suspend: the one clock that worker and keeper share. Resolution 10 ms. */
export function bootMs(): number {
  return Math.round(uptime() * 1000);
}

/** Identifies this boot of the machine: times of {@link bootMs} mean nothing in another one. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
