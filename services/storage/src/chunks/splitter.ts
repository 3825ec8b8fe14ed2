import { CHUNK_BYTES } from "./chunk-file.ts";

/**
 * Cuts a stream of pieces of any size into chunks of exactly {@link CHUNK_BYTES}; the last may be shorter. Cuts lie
 * at fixed offsets, so that an upload resumes at any chunk's end without state.
 */
export async function* split(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let parts: Uint8Array[] = [];
  let size = 0;
  for await (const piece of pieces) {
    let rest = piece;
    while (size + rest.length >= CHUNK_BYTES) {
      const take = CHUNK_BYTES - size;
      yield Buffer.concat([...parts, rest.subarray(0, take)]);
      parts = [];
      size = 0;
      rest = rest.subarray(take);
    }
    if (rest.length > 0) parts.push(rest);
    size += rest.length;
  }
  if (size > 0) yield Buffer.concat(parts);
}
