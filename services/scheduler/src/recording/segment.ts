import { crc32 } from "node:zlib";

/**
 * A recording is a directory of segments, one for each life of a planner, each readable by itself. A segment is the
 * mark, then chunks: length and checksum (32 bits, little-endian), a letter for what it holds, the bytes.
 *
 *   H  the header, JSON, uncompressed
 *   D  a piece of one deflate stream, ended by a sync flush; the stream is frames, each after its length (32 bits)
 *   E  the end, JSON: why there is no more
 */
export const segmentMark = Buffer.from("FGPUREC1", "latin1");

/** File names end with it. */
export const segmentSuffix = ".fgrec";

/** Who wrote a segment, with what, and when. */
export interface SegmentHeader {
  /** Version of the frames' encoding. */
  readonly format: number;
  /** Version of the product. */
  readonly product: string;
  /** Digest of the engine's sources: only the same engine decides the same. */
  readonly engine: string;
  /** The replica that led, and its term. */
  readonly replica: string;
  readonly term: number;
  /** Number within the term, from 0. */
  readonly number: number;
  readonly startedMs: number;
  /** Cycles that could not be recorded since the segment before. */
  readonly missedCycles: number;
}

/** Why a segment ended: the leader did, it was full, or cycles came faster than the disk took them. */
export interface SegmentEnd {
  readonly reason: "stopped" | "full" | "overrun" | "failed";
}

export type ChunkKind = "H" | "D" | "E";

/** The bytes of a chunk. */
export function chunkOf(kind: ChunkKind, body: Uint8Array): Buffer {
  const chunk = Buffer.allocUnsafe(9 + body.length);
  chunk.writeUInt32LE(body.length, 0);
  chunk.write(kind, 8, "latin1");
  chunk.set(body, 9);
  chunk.writeUInt32LE(crc32(chunk.subarray(8)), 4);
  return chunk;
}

/** The chunks of a file as far as they are whole, and what is wrong with the rest. */
export function readChunks(file: Buffer): {
  readonly chunks: readonly { readonly kind: string; readonly body: Buffer }[];
  readonly damage: string | undefined;
} {
  const chunks: { kind: string; body: Buffer }[] = [];
  if (!file.subarray(0, segmentMark.length).equals(segmentMark)) {
    return { chunks, damage: "it does not begin as a recording does" };
  }
  let at = segmentMark.length;
  while (at < file.length) {
    const length = at + 9 <= file.length ? file.readUInt32LE(at) : Number.POSITIVE_INFINITY;
    const end = at + 9 + length;
    if (end > file.length) return { chunks, damage: `it is cut off after ${at} bytes` };
    if (crc32(file.subarray(at + 8, end)) !== file.readUInt32LE(at + 4)) {
      return { chunks, damage: `its checksum is wrong at byte ${at}` };
    }
    chunks.push({
      kind: file.toString("latin1", at + 8, at + 9),
      body: file.subarray(at + 9, end),
    });
    at = end;
  }
  return { chunks, damage: undefined };
}
