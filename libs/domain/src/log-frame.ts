/** Where a log record came from. `system` = the worker's own remarks about the attempt. */
export type LogStream = "stdout" | "stderr" | "system";

/** One record of an attempt's log, in arrival order. */
export interface LogRecord {
  readonly stream: LogStream;
  /** Milliseconds since the Unix epoch on the node. */
  readonly timeMs: number;
  /** Index of the array element that wrote it; undefined outside arrays. */
  readonly element: number | undefined;
  /** Position just after this record in the engine's own log; 0 for processes. */
  readonly sourceEnd: number;
  readonly data: Uint8Array;
}

/**
 * Frame header, 32 bytes little endian: u32 magic, u8 stream, 3 bytes zero, u32 data length, u32 element + 1,
 * f64 time in ms, f64 source end. The offset of a header in the file is the log's cursor.
 */
export const headerBytes = 32;
const magic = 0x4c474731;

/** Longest data of one frame: a reader needs a buffer of this size plus the header. */
export const maxFrameDataBytes = 64 * 1024;

const streams = ["stdout", "stderr", "system"] as const;

/** The bytes of one record; data longer than {@link maxFrameDataBytes} is a bug of the caller. */
export function encodeFrame(record: LogRecord): Uint8Array {
  if (record.data.length > maxFrameDataBytes) throw new RangeError("log frame too long");
  const frame = new Uint8Array(headerBytes + record.data.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, magic, true);
  view.setUint8(4, streams.indexOf(record.stream));
  view.setUint32(8, record.data.length, true);
  view.setUint32(12, record.element === undefined ? 0 : record.element + 1, true);
  view.setFloat64(16, record.timeMs, true);
  view.setFloat64(24, record.sourceEnd, true);
  frame.set(record.data, headerBytes);
  return frame;
}

/** One whole frame found in a buffer, and where the next one begins (relative to the buffer). */
export interface DecodedFrame {
  readonly record: LogRecord;
  readonly start: number;
  readonly end: number;
}

/**
 * The whole frames of `bytes`, which must begin at a frame. A cut frame at the end is left for later.
 * Throws RangeError where the bytes are not frames: a cursor that is not one.
 */
export function decodeFrames(bytes: Uint8Array): DecodedFrame[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: DecodedFrame[] = [];
  let at = 0;
  while (at + headerBytes <= bytes.length) {
    const stream = streams[view.getUint8(at + 4)];
    const length = view.getUint32(at + 8, true);
    if (view.getUint32(at, true) !== magic || stream === undefined || length > maxFrameDataBytes) {
      throw new RangeError(`no log frame at ${at}`);
    }
    const end = at + headerBytes + length;
    if (end > bytes.length) break;
    const element = view.getUint32(at + 12, true);
    found.push({
      record: {
        stream,
        timeMs: view.getFloat64(at + 16, true),
        element: element === 0 ? undefined : element - 1,
        sourceEnd: view.getFloat64(at + 24, true),
        data: bytes.subarray(at + headerBytes, end),
      },
      start: at,
      end,
    });
    at = end;
  }
  return found;
}
