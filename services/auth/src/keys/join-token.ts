import { createHmac, randomBytes } from "node:crypto";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { Id } from "@fastgpu/domain/ids";
import { decodeBase62, encodeBase62 } from "./base62.ts";

/** How long a worker's invitation is valid. */
export const JOIN_TOKEN_TTL_MS = 3_600_000;

/** The parts of `fgpj_<id>_<secret>`. */
export interface JoinTokenParts {
  readonly joinId: Id<"join">;
  readonly secret: Buffer;
}

const SECRET_BYTES = 32;
const shape = /^fgpj_([0-9A-Za-z]{22})_([0-9A-Za-z]{43})$/;

/** A new token's parts. */
export function newJoinTokenParts(joinId: Id<"join">): JoinTokenParts {
  return { joinId, secret: randomBytes(SECRET_BYTES) };
}

/** The text of a join token. Secret: shown once. */
export function formatJoinToken(parts: JoinTokenParts): string {
  const id = Buffer.from(idToUuid(parts.joinId).replaceAll("-", ""), "hex");
  return `fgpj_${encodeBase62(id, 22)}_${encodeBase62(parts.secret, 43)}`;
}

/** The parts of a join token; undefined where the text is none. */
export function parseJoinToken(text: string): JoinTokenParts | undefined {
  const [, idText = "", secretText = ""] = shape.exec(text) ?? [];
  if (idText === "") return undefined;
  const id = decodeBase62(idText, 16);
  const secret = decodeBase62(secretText, SECRET_BYTES);
  if (id === undefined || secret === undefined) return undefined;
  return { joinId: uuidToId("join", id.toString("hex")), secret };
}

/** What is stored of a join token. */
export function joinTokenMac(hmacKey: Uint8Array, parts: JoinTokenParts): Buffer {
  return createHmac("sha256", hmacKey).update(formatJoinToken(parts)).digest();
}
