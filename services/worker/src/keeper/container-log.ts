import { closeSync, openSync, readSync, watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { LogWriter } from "../log/writer.ts";

const pollMs = 250;

/** One line of the engine's log: when, which stream, the bytes of the task. */
export interface EngineLine {
  readonly timeMs: number;
  readonly stream: "stdout" | "stderr";
  readonly data: Buffer;
}

/**
 * A line of the Kubernetes log format: time, stream, F (whole line) or P (part of one), text. A whole line gets back
 * the newline that the format took. Undefined where it is none.
 */
export function parseEngineLine(line: Buffer): EngineLine | undefined {
  const head = line.subarray(0, 80).toString("latin1");
  const match = /^(\S+) (stdout|stderr) ([FP]) ?/.exec(head);
  if (match === null) return undefined;
  const [prefix, time = "", stream, tag] = match;
  const text = line.subarray(prefix.length);
  return {
    timeMs: Date.parse(time.replace(/(\.\d{3})\d*/, "$1")),
    stream: stream === "stderr" ? "stderr" : "stdout",
    data: tag === "F" ? Buffer.concat([text, Buffer.from("\n")]) : Buffer.from(text),
  };
}

/**
 * Copies the engine's log file into the attempt's log as it grows. Each record carries the engine's offset, so that
 * the next keeper goes on exactly where this one stopped.
 */
export function followEngineLog(options: { path: string; log: LogWriter; onLog(): void }): {
  finish(): void;
} {
  const { path, log } = options;
  const buffer = Buffer.allocUnsafe(256 * 1024);
  let offset = log.sourceEnd;
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
        const consumed = copyLines(buffer.subarray(0, count), offset, log);
        if (consumed === 0) return;
        offset += consumed;
        options.onLog();
      }
    } finally {
      closeSync(fd);
    }
  };
  // The folder is watched, since the file may not be there yet; the timer covers what the kernel does not tell.
  const name = basename(path);
  const watcher = watch(dirname(path), (_, changed) => {
    if (changed === null || changed === name) read();
  });
  watcher.on("error", () => undefined);
  const timer = setInterval(read, pollMs);
  read();
  return {
    finish() {
      watcher.close();
      clearInterval(timer);
      read();
    },
  };
}

/** Appends all whole lines of `bytes`; returns how many bytes they took. */
function copyLines(bytes: Buffer, offset: number, log: LogWriter): number {
  let at = 0;
  for (;;) {
    const newline = bytes.indexOf(10, at);
    if (newline === -1) return at;
    const line = parseEngineLine(bytes.subarray(at, newline));
    at = newline + 1;
    if (line !== undefined) log.append({ ...line, sourceEnd: offset + at });
  }
}
