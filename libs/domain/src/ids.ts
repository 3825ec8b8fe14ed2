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
] as const;
export type IdPrefix = (typeof idPrefixes)[number];

export type Id<P extends IdPrefix> = Branded<P>;
export type OrgId = Id<"org">;
export type ProjectId = Id<"proj">;
export type UserId = Id<"user">;
export type ApiKeyId = Id<"key">;
export type TaskId = Id<"task">;
export type AttemptId = Id<"att">;
export type NodeId = Id<"node">;
export type GpuId = Id<"gpu">;
export type ArtifactId = Id<"art">;
export type EventId = Id<"evt">;

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const valueOf = new Map([...alphabet].map((char, value) => [char, value] as const));

/** 16 bytes as 26 Crockford characters (130 bits: the first character carries 3 bits). */
function encode(bytes: Uint8Array): string {
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  let text = "";
  for (let i = 0; i < 26; i += 1) {
    text = alphabet.charAt(Number(value & 31n)) + text;
    value >>= 5n;
  }
  return text;
}

function decode(text: string): bigint | undefined {
  if (text.length !== 26 || text.charAt(0) > "7") return undefined;
  let value = 0n;
  for (const char of text) {
    const digit = valueOf.get(char);
    if (digit === undefined) return undefined;
    value = (value << 5n) | BigInt(digit);
  }
  return value;
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
  if (!text.startsWith(`${prefix}-`)) return undefined;
  return decode(text.slice(prefix.length + 1)) === undefined ? undefined : (text as Id<P>);
}

/** The id as the uuid text that Postgres stores. */
export function idToUuid(id: Id<IdPrefix>): string {
  const value = decode(id.slice(id.indexOf("-") + 1));
  if (value === undefined) throw new RangeError(`malformed id ${id}`);
  const hex = value.toString(16).padStart(32, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The id of a uuid that Postgres returned. */
export function uuidToId<P extends IdPrefix>(prefix: P, uuid: string): Id<P> {
  const hex = uuid.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/.test(hex)) throw new RangeError(`malformed uuid ${uuid}`);
  const bytes = new Uint8Array(16);
  for (let i = 0; i < 16; i += 1) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return `${prefix}-${encode(bytes)}` as Id<P>;
}

/** Milliseconds since the epoch at which an id was made. */
export function idTimeMs(id: Id<IdPrefix>): number {
  return Number.parseInt(idToUuid(id).replace("-", "").slice(0, 12), 16);
}
