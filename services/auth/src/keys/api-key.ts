import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { ApiKeyId } from "@fastgpu/domain/ids";
import { decodeBase62, encodeBase62 } from "./base62.ts";

/** The parts of `fgpu_<env>_<id>_<secret>_<crc>`. */
export interface ApiKeyParts {
  /** Which installation the key is for, for example `local`: a key pasted into the wrong one says so. */
  readonly env: string;
  readonly keyId: ApiKeyId;
  /** 32 random bytes. */
  readonly secret: Buffer;
}

/** What a text turned out to be: a well-formed key, or why it is none. */
export type ParsedApiKey =
  | { readonly kind: "key"; readonly parts: ApiKeyParts }
  | { readonly kind: "malformed"; readonly why: "shape" | "checksum" };

const SECRET_BYTES = 32;
const ID_DIGITS = 22;
const SECRET_DIGITS = 43;
const CRC_DIGITS = 6;
const shape = /^fgpu_[0-9a-z]{1,16}_[0-9A-Za-z]{22}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/;

/** A new key's parts, its secret from the system's random source. */
export function newApiKeyParts(env: string, keyId: ApiKeyId): ApiKeyParts {
  return { env, keyId, secret: randomBytes(SECRET_BYTES) };
}

/** The text of a key. Secret: shown once, never logged, never stored. */
export function formatApiKey(parts: ApiKeyParts): string {
  const id = encodeBase62(Buffer.from(idToUuid(parts.keyId).replaceAll("-", ""), "hex"), ID_DIGITS);
  const body = `fgpu_${parts.env}_${id}_${encodeBase62(parts.secret, SECRET_DIGITS)}`;
  return `${body}_${checksum(body)}`;
}

/**
 * Reads a key. The checksum (CRC-32 of all before it, as secret scanners know it from other providers' keys) sorts
 * out typing errors and truncated pastes before anything is looked up.
 */
export function parseApiKey(text: string): ParsedApiKey {
  if (!shape.test(text)) return { kind: "malformed", why: "shape" };
  const cut = text.lastIndexOf("_");
  const body = text.slice(0, cut);
  if (checksum(body) !== text.slice(cut + 1)) return { kind: "malformed", why: "checksum" };
  const [, env = "", id = "", secretText = ""] = body.split("_");
  const uuid = decodeBase62(id, 16);
  const secret = decodeBase62(secretText, SECRET_BYTES);
  if (uuid === undefined || secret === undefined) return { kind: "malformed", why: "shape" };
  return { kind: "key", parts: { env, keyId: uuidToId("key", uuid.toString("hex")), secret } };
}

/** What is stored of a key: HMAC-SHA256 over all its parts, under a key derived from the master key. */
export function apiKeyMac(hmacKey: Uint8Array, parts: ApiKeyParts): Buffer {
  return createHmac("sha256", hmacKey).update(formatApiKey(parts)).digest();
}

/** Whether a key's MAC is the stored one, in constant time. */
export function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function checksum(body: string): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc32(body));
  return encodeBase62(bytes, CRC_DIGITS);
}
