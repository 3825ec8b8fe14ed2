import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { constants, inflateRaw } from "node:zlib";
import { type Frame, FrameReader, recordingFormat } from "@fastgpu/scheduling/recording/frames";
import { readChunks, type SegmentEnd, type SegmentHeader } from "./segment.ts";

const inflate = promisify(inflateRaw);

/** A segment as far as it can be read. */
export interface Segment {
  readonly path: string;
  readonly header: SegmentHeader;
  /** Undefined where the writer did not get to its end: it still writes, or was killed. */
  readonly end: SegmentEnd | undefined;
  /** What is wrong with the file; undefined: nothing. What was whole before it is read all the same. */
  readonly damage: string | undefined;
  /** The frames in order, once. Throws RangeError where the bytes are no frames. */
  frames(): Iterable<Frame>;
}

/** What cannot be read at all. */
export interface Unreadable {
  readonly path: string;
  readonly header: undefined;
  readonly damage: string;
}

/** A segment inflates to no more than this, whatever is wrong with it. */
const greatestInflated = 512 * 1024 * 1024;

/** Reads a segment file. */
export async function readSegment(path: string): Promise<Segment | Unreadable> {
  const file = await readFile(path);
  const { chunks, damage } = readChunks(file);
  const header = chunks[0]?.kind === "H" ? headerOf(chunks[0].body) : undefined;
  if (header === undefined) {
    return { path, header, damage: damage ?? "it has no header" };
  }
  if (header.format !== recordingFormat) {
    const reads = `this version reads format ${recordingFormat}`;
    return { path, header: undefined, damage: `it has format ${header.format}, ${reads}` };
  }
  const deflated = Buffer.concat(chunks.filter(({ kind }) => kind === "D").map(({ body }) => body));
  const raw = await inflate(deflated, {
    finishFlush: constants.Z_SYNC_FLUSH,
    maxOutputLength: greatestInflated,
  });
  const last = chunks.at(-1);
  const end = last?.kind === "E" ? (JSON.parse(last.body.toString()) as SegmentEnd) : undefined;
  return { path, header, end, damage, frames: () => framesOf(raw) };
}

function headerOf(body: Buffer): SegmentHeader | undefined {
  try {
    return JSON.parse(body.toString()) as SegmentHeader;
  } catch {
    return undefined;
  }
}

function* framesOf(raw: Buffer): Iterable<Frame> {
  const reader = new FrameReader();
  for (let at = 0; at + 4 <= raw.length;) {
    const length = raw.readUInt32LE(at);
    if (at + 4 + length > raw.length) return;
    yield reader.read(raw.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
}
