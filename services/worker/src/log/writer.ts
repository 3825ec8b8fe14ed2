import { closeSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import {
  type LogStream,
  decodeFrames,
  encodeFrame,
  headerBytes,
  maxFrameDataBytes,
} from "@fastgpu/domain/log-frame";

/** The append-only log of one attempt. Synchronous: a record is in the page cache when `append` returns. */
export interface LogWriter extends Disposable {
  append(record: {
    stream: LogStream;
    element?: number | undefined;
    sourceEnd?: number;
    timeMs?: number;
    data: Uint8Array;
  }): void;
  /** Position in the engine's own log after the last record; 0 where there is none. */
  readonly sourceEnd: number;
}

const capNotice = Buffer.from("fastgpu: the log reached its size limit; later output is dropped\n");

/**
 * Opens (or opens again after a crash) the log at `path`. A frame cut by a crash is cut off. Past `maxBytes` one
 * system record says so and everything later is dropped: a task cannot fill the node's disk with its log.
 */
export function openLogWriter(path: string, maxBytes: number): LogWriter {
  const fd = openSync(path, "a+", 0o600);
  const kept = scan(fd);
  ftruncateSync(fd, kept.end);
  let size = kept.end;
  let sourceEnd = kept.sourceEnd;
  let capped = size >= maxBytes;
  const write = (frame: Uint8Array): void => {
    for (let at = 0; at < frame.length;) at += writeSync(fd, frame, at);
    size += frame.length;
  };
  return {
    get sourceEnd() {
      return sourceEnd;
    },
    append({ stream, element, sourceEnd: source = 0, timeMs = Date.now(), data }) {
      sourceEnd = Math.max(sourceEnd, source);
      if (capped) return;
      for (let at = 0; at < data.length; at += maxFrameDataBytes) {
        const part = data.subarray(at, at + maxFrameDataBytes);
        write(encodeFrame({ stream, timeMs, element, sourceEnd: source, data: part }));
      }
      if (size >= maxBytes) {
        capped = true;
        write(
          encodeFrame({ stream: "system", timeMs, element, sourceEnd: source, data: capNotice }),
        );
      }
    },
    [Symbol.dispose]() {
      closeSync(fd);
    },
  };
}

/** End of the last whole frame of a file and the source position it carries. */
function scan(fd: number): { end: number; sourceEnd: number } {
  const { size } = fstatSync(fd);
  const buffer = Buffer.allocUnsafe(4 * (headerBytes + maxFrameDataBytes));
  let end = 0;
  let sourceEnd = 0;
  while (end < size) {
    const filled = readSync(fd, buffer, 0, buffer.length, end);
    const frames = decodeFrames(buffer.subarray(0, filled));
    const last = frames.at(-1);
    if (last === undefined) break;
    for (const frame of frames) sourceEnd = Math.max(sourceEnd, frame.record.sourceEnd);
    end += last.end;
  }
  return { end, sourceEnd };
}
