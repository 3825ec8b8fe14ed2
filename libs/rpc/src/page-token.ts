import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";

/** What makes two pages parts of one list: the method and every field but page_size and page_token. */
export type PageQuery = readonly (string | number | boolean)[];

/** Page tokens of one service. A token is opaque, signed, and good for the query it was made for only. */
export interface PageTokens {
  /** The token that continues behind `cursor`. */
  make(query: PageQuery, cursor: string): string;
  /** The cursor in a token; undefined for "", the first page. INVALID_FIELD for a token of another query or a forged one. */
  read(query: PageQuery, token: string): string | undefined;
}

const MAC_BYTES = 16;

/** Page tokens signed with a key that all replicas of the service share (derived from the master key). */
export function createPageTokens(key: Uint8Array): PageTokens {
  const mac = (query: PageQuery, cursor: string): Buffer => {
    const bound = createHash("sha256").update(JSON.stringify(query)).digest();
    return createHmac("sha256", key).update(bound).update(cursor).digest().subarray(0, MAC_BYTES);
  };
  return {
    make: (query, cursor) =>
      Buffer.concat([mac(query, cursor), Buffer.from(cursor)]).toString("base64url"),
    read(query, token) {
      if (token === "") return undefined;
      const bytes = Buffer.from(token, "base64url");
      const cursor = bytes.subarray(MAC_BYTES).toString();
      const whole = bytes.length > MAC_BYTES && bytes.toString("base64url") === token;
      if (!whole || !timingSafeEqual(bytes.subarray(0, MAC_BYTES), mac(query, cursor))) {
        throw Fault.invalid(
          "page_token",
          "is not a token of this list",
          "pass next_page_token of the page before, with all other fields unchanged",
        );
      }
      return cursor;
    },
  };
}

/** The page size to use: 100 where the request says 0. */
export function pageSize(requested: number): number {
  return requested === 0 ? 100 : Math.min(requested, 1_000);
}

/**
 * Cuts a list that was read with one row more than the page holds, and makes the token of the next page from the last
 * row kept.
 */
export function cutPage<T>(
  rows: readonly T[],
  options: {
    readonly size: number;
    readonly tokens: PageTokens;
    readonly query: PageQuery;
    readonly cursorOf: (row: T) => string;
  },
): { readonly rows: readonly T[]; readonly nextPageToken: string } {
  const kept = rows.slice(0, options.size);
  const last = kept.at(-1);
  const more = rows.length > options.size && last !== undefined;
  return {
    rows: kept,
    nextPageToken: more ? options.tokens.make(options.query, options.cursorOf(last)) : "",
  };
}
