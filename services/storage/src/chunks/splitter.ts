import { CHUNK_BYTES } from "./chunk-file.ts";

/** Room that a chunk begins with; it grows by doubling, so that small files and small pieces stay cheap. */
const FIRST_ROOM = 64 << 10;

/**
 * Cuts a stream of pieces of any size into chunks of exactly {@link CHUNK_BYTES}; the last may be shorter. Cuts lie
 * at fixed offsets, so that an upload resumes at any chunk's end without state. Pieces are copied: a flood of one-byte
 * pieces holds no more memory than the chunk that they make.
 */
export async function* split(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let room: Buffer = Buffer.allocUnsafeSlow(FIRST_ROOM);
  let size = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const taken = piece.subarray(at, at + CHUNK_BYTES - size);
      room = grown(room, size, size + taken.length);
      room.set(taken, size);
      size += taken.length;
      at += taken.length;
      if (size < CHUNK_BYTES) continue;
      yield room;
      // The chunk belongs to its taker now.
      room = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      size = 0;
    }
  }
  if (size > 0) yield room.subarray(0, size);
}

function grown(room: Buffer, used: number, needed: number): Buffer {
  if (needed <= room.length) return room;
  let length = room.length;
  while (length < needed) length *= 2;
  const larger = Buffer.allocUnsafeSlow(Math.min(length, CHUNK_BYTES));
  room.copy(larger, 0, 0, used);
  return larger;
}
