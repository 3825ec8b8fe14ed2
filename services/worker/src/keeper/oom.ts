import { closeSync, constants, openSync, readSync } from "node:fs";
import type { ContainerView } from "../runtime/container/engine.ts";

/**
 * True where the kernel's out-of-memory killer took a process of the container. Asked of the engine (reliable with
 * Docker) and of the kernel's log (podman 4 always says false); a code of 137 alone proves nothing.
 */
export function wasOomKilled(before: ContainerView, after: ContainerView | undefined): boolean {
  if (after?.oomKilled === true) return true;
  if (after === undefined || after.exitCode === 0) return false;
  return kernelLog().some((line) => line.includes("task_memcg=") && line.includes(before.id));
}

/** The kernel's messages that are still in its buffer; empty where they may not be read. */
function kernelLog(): string[] {
  const lines: string[] = [];
  let fd: number;
  try {
    fd = openSync("/dev/kmsg", constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return lines;
  }
  const buffer = Buffer.allocUnsafe(8192);
  try {
    for (;;) {
      try {
        const count = readSync(fd, buffer, 0, buffer.length, null);
        if (count === 0) return lines;
        lines.push(buffer.toString("utf8", 0, count));
      } catch (error) {
        // EPIPE: records were overwritten while reading, the next ones follow. EAGAIN: the end.
        const skipped = error instanceof Error && "code" in error && error.code === "EPIPE";
        if (!skipped) return lines;
      }
    }
  } finally {
    closeSync(fd);
  }
}
