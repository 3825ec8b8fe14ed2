declare const brand: unique symbol;
type Branded<Prefix extends string> = `${Prefix}-${string}` & { readonly [brand]: Prefix };

/**
 * Prefixes of all typed ids. An id is prefix, hyphen and a UUIDv7 (RFC 9562) as 26 lower-case Crockford base32
 * characters: sortable by time, and legal as a Kubernetes and container name. Stored as uuid.
 */
export const idPrefixes = [
  "org",
  "proj",
  "user",
  "key",
  "task",
  "att",
  "node",
  "gpu",
  "art",
  "acct",
  "evt",
  "join",
  "dom",
  "resv",
] as const;
export type IdPrefix = (typeof idPrefixes)[number];

export type Id<P extends IdPrefix> = Branded<P>;
export type OrgId = Id<"org">;
export type ProjectId = Id<"proj">;
export type ApiKeyId = Id<"key">;
export type TaskId = Id<"task">;
export type AttemptId = Id<"att">;
export type NodeId = Id<"node">;
export type GpuId = Id<"gpu">;
export type ArtifactId = Id<"art">;
export type EventId = Id<"evt">;
export type ReservationId = Id<"resv">;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
/** Value of each ASCII character in the alphabet, 255 for those outside. */
const digitOf = new Uint8Array(128).fill(255);
for (let i = 0; i < 32; i += 1) digitOf[alphabet.charCodeAt(i)] = i;
/** Value of each ASCII character as a hexadecimal digit, 255 for others. */
const nibbleOf = new Uint8Array(128).fill(255);
for (let i = 0; i < 16; i += 1) nibbleOf[i.toString(16).charCodeAt(0)] = i;
const hexOf = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

// Batches convert hundreds of thousands of ids a second: bits are moved in small integers, never in a bigint.

/** 16 bytes as 26 Crockford characters (130 bits: the first character carries 3 bits). */
function encode(bytes: Uint8Array): string {
  let text = "";
  let pending = 0;
  // Two leading zero bits make 128 into 26 × 5.
  let bits = 2;
  for (let i = 0; i < 16; i += 1) {
    pending = ((pending << 8) | (bytes[i] ?? 0)) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(pending >> bits) & 31];
    }
  }
  return text;
}

/** Whether the text from `start` on is 26 characters that `encode` could have written. */
function isEncoded(text: string, start: number): boolean {
  if (text.length - start !== 26 || (digitOf[text.charCodeAt(start)] ?? 255) > 7) return false;
  for (let i = start + 1; i < text.length; i += 1) {
    if ((digitOf[text.charCodeAt(i)] ?? 255) > 31) return false;
  }
  return true;
}

/**
 * A new id: the UUIDv7 of `nowMs` (milliseconds since the epoch) and ten random bytes.
 * The random bytes come from the caller, so that the same code runs in a replay.
 */
export function newId<P extends IdPrefix>(prefix: P, nowMs: number, random: Uint8Array): Id<P> {
  if (random.length < 10) throw new RangeError("newId needs ten random bytes");
  const bytes = new Uint8Array(16);
  let time = nowMs;
  for (let i = 5; i >= 0; i -= 1) {
    bytes[i] = time % 256;
    time = Math.floor(time / 256);
  }
  bytes.set(random.subarray(0, 10), 6);
  bytes[6] = 0x70 | ((bytes[6] ?? 0) & 0x0f);
  bytes[8] = 0x80 | ((bytes[8] ?? 0) & 0x3f);
  return `${prefix}-${encode(bytes)}` as Id<P>;
}

/** The id that `text` spells, or undefined where it is not a well-formed id of this kind. */
export function parseId<P extends IdPrefix>(prefix: P, text: string): Id<P> | undefined {
  if (!text.startsWith(prefix) || text[prefix.length] !== "-") return undefined;
  return isEncoded(text, prefix.length + 1) ? (text as Id<P>) : undefined;
}

/** The id as the uuid text that Postgres stores. */
export function idToUuid(id: Id<IdPrefix>): string {
  const start = id.indexOf("-") + 1;
  if (!isEncoded(id, start)) throw new RangeError(`malformed id ${id}`);
  let uuid = "";
  let pending = digitOf[id.charCodeAt(start)] ?? 0;
  let bits = 3;
  let written = 0;
  for (let i = start + 1; i < id.length; i += 1) {
    pending = ((pending << 5) | (digitOf[id.charCodeAt(i)] ?? 0)) & 0xfff;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    if (written === 4 || written === 6 || written === 8 || written === 10) uuid += "-";
    uuid += hexOf[(pending >> bits) & 255];
    written += 1;
  }
  return uuid;
}

/** The id of a uuid that Postgres returned. */
export function uuidToId<P extends IdPrefix>(prefix: P, uuid: string): Id<P> {
  const bytes = new Uint8Array(16);
  let digits = 0;
  for (let i = 0; i < uuid.length; i += 1) {
    const code = uuid.charCodeAt(i);
    if (code === 45) continue;
    const nibble = nibbleOf[code] ?? 255;
    if (nibble > 15 || digits === 32) throw new RangeError(`malformed uuid ${uuid}`);
    bytes[digits >> 1] = ((bytes[digits >> 1] ?? 0) << 4) | nibble;
    digits += 1;
  }
  if (digits !== 32) throw new RangeError(`malformed uuid ${uuid}`);
  return `${prefix}-${encode(bytes)}` as Id<P>;
}

/** Milliseconds since the epoch at which an id was made. */
export function idTimeMs(id: Id<IdPrefix>): number {
  return Number.parseInt(idToUuid(id).replace("-", "").slice(0, 12), 16);
}
