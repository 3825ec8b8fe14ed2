import { createHash, createHmac } from "node:crypto";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdCompressSync, zstdDecompress } from "node:zlib";
import { seal, unseal } from "@fastgpu/lifecycle/master-key";

/** Bytes of content in every chunk but an artifact's last. */
export const CHUNK_BYTES = 1 << 20;

/** The two keys of one organisation, both derived from its data key. */
export interface ChunkKeys {
  readonly encryption: Buffer;
  readonly address: Buffer;
}

/** Where a chunk lies within its organisation: 64 hexadecimal digits. */
export type ChunkAddress = string & { readonly chunk: unique symbol };

const STORED = 0;
const ZSTD = 1;
const SAMPLE_BYTES = 32 << 10;
/** Compression is kept where it saves at least an eighth. */
const WORTHWHILE = 7 / 8;
const compressionParams = { [constants.ZSTD_c_compressionLevel]: 1 };

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/**
 * Address of some content: HMAC over its SHA-256. Equal content of one organisation gets one address; who reads the
 * disk alone cannot test a guess of the content, and two organisations' addresses tell nothing of each other.
 */
export function chunkAddress(keys: ChunkKeys, content: Uint8Array): ChunkAddress {
  const digest = createHash("sha256").update(content).digest();
  return createHmac("sha256", keys.address).update(digest).digest("hex") as ChunkAddress;
}

/** The address that 32 stored bytes spell. */
export function addressOf(bytes: Buffer): ChunkAddress {
  if (bytes.length !== 32) throw new RangeError("a chunk address has 32 bytes");
  return bytes.toString("hex") as ChunkAddress;
}

/** The bytes of a chunk's file: one byte for the form, then the sealed body (AES-256-GCM). */
export async function encodeChunk(
  keys: ChunkKeys,
  address: ChunkAddress,
  content: Uint8Array,
): Promise<Buffer> {
  const packed = await pack(content);
  const form = packed === undefined ? STORED : ZSTD;
  const body = seal(keys.encryption, packed ?? content, contextOf(address, form));
  return Buffer.concat([Buffer.of(form), body]);
}

/** The content of a chunk's file; undefined where it is damaged, or not this chunk's. */
export async function decodeChunk(
  keys: ChunkKeys,
  address: ChunkAddress,
  file: Uint8Array,
): Promise<Buffer | undefined> {
  const form = file[0];
  if (form !== STORED && form !== ZSTD) return undefined;
  const body = unseal(keys.encryption, file.subarray(1), contextOf(address, form));
  if (body === undefined) return undefined;
  const content =
    form === ZSTD
      ? await decompress(body, { maxOutputLength: CHUNK_BYTES }).catch(() => undefined)
      : body;
  if (content === undefined || chunkAddress(keys, content) !== address) return undefined;
  return content;
}

function contextOf(address: ChunkAddress, form: number): string {
  return `chunk/${address}/${form}`;
}

/** Compressed content, or undefined where that would not pay: already compressed data is found by a sample. */
async function pack(content: Uint8Array): Promise<Buffer | undefined> {
  const sample = content.subarray(0, SAMPLE_BYTES);
  const probe = zstdCompressSync(sample, { params: compressionParams });
  if (probe.length > sample.length * WORTHWHILE) return undefined;
  const packed = await compress(content, { params: compressionParams });
  return packed.length <= content.length * WORTHWHILE ? packed : undefined;
}
