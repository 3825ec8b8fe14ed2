import { closeSync, openSync, readSync } from "node:fs";
import { createLineSplitter } from "./run.ts";

const pollMs = 500;

/**
 * Follows the file that a task may write its progress lines to instead of the file descriptor. Polled: the file may
 * lie on any file system, and may be created late.
 */
export function watchProgressFile(
  path: string | undefined,
  onLine: (line: string) => void,
): { close(): void } {
  if (path === undefined) return { close: () => undefined };
  const split = createLineSplitter(onLine);
  const buffer = Buffer.allocUnsafe(64 * 1024);
  let offset = 0;
  const read = (): void => {
    let fd: number;
    try {
      fd = openSync(path, "r");
    } catch {
      return;
    }
    try {
      for (;;) {
        const count = readSync(fd, buffer, 0, buffer.length, offset);
        if (count === 0) return;
        offset += count;
        split(buffer.subarray(0, count));
      }
    } catch {
      // Not a plain file: nothing to follow.
    } finally {
      closeSync(fd);
    }
  };
  const timer = setInterval(read, pollMs);
  return {
    close() {
      clearInterval(timer);
      read();
    },
  };
}
