import { open } from "node:fs/promises";
import {
  type DecodedFrame,
  decodeFrames,
  headerBytes,
  maxFrameDataBytes,
} from "@fastgpu/domain/log-frame";

/** A stretch of an attempt's log. */
export interface LogRange {
  readonly frames: readonly DecodedFrame[];
  /** Offset in the file of the first frame's header. */
  readonly offset: number;
  /** Cursor to read on from. */
  readonly nextOffset: number;
}

/**
 * Whole frames from `offset` on, about `maxBytes` of them (at least one where there is one).
 * A missing file is an empty log. Throws RangeError where `offset` is not a cursor of this log.
 */
export async function readLogRange(
  path: string,
  offset: number,
  maxBytes: number,
): Promise<LogRange> {
  const file = await open(path, "r").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) return { frames: [], offset, nextOffset: offset };
  try {
    const { size } = await file.stat();
    if (offset > size) throw new RangeError(`offset ${offset} is past the end ${size}`);
    const wanted = Math.max(maxBytes, headerBytes + maxFrameDataBytes);
    const buffer = Buffer.allocUnsafe(Math.min(wanted, size - offset));
    let filled = 0;
    while (filled < buffer.length) {
      const { bytesRead } = await file.read(
        buffer,
        filled,
        buffer.length - filled,
        offset + filled,
      );
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    const all = decodeFrames(buffer.subarray(0, filled));
    const frames = all.filter((frame, i) => i === 0 || frame.end <= maxBytes);
    return { frames, offset, nextOffset: offset + (frames.at(-1)?.end ?? 0) };
  } finally {
    await file.close();
  }
}
