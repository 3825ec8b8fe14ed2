import { createHash } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";
import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "./pool.ts";
import type { Querier } from "./pool.ts";
import type { Tx } from "./transaction.ts";

/** A value as JSON has them. */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json };

/** Names one request of a client. */
export interface RequestKey {
  readonly org: OrgId;
  readonly project: ProjectId;
  /** Full method name. */
  readonly method: string;
  /** The client's UUID. */
  readonly requestId: string;
}

/** A request body as it was parsed, before defaults: what makes two requests the same. */
export interface RequestBody {
  readonly sha256: Buffer;
  /** Canonical JSON: keys sorted. */
  readonly text: string;
}

/** Canonical form of a parsed request (`toJson(Schema, message)`), without its request_id. */
export function requestBody(body: Json): RequestBody {
  const text = canonical(body);
  return { text, sha256: createHash("sha256").update(text).digest() };
}

/** What is known of a request id. */
export type RequestOutcome =
  | { readonly kind: "new" }
  /** The same request was answered: answer the same. */
  | { readonly kind: "replay"; readonly response: Buffer }
  /** The id was used for something else; `field` is the first that differs. */
  | { readonly kind: "conflict"; readonly field: string };

const claim = statement<{ claimed: number }>(
  "request_claim",
  `INSERT INTO requests (org_id, project_id, method, request_id, body_sha256, body, response, created_ms)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
   ON CONFLICT (project_id, method, request_id) DO NOTHING
   RETURNING 1 AS claimed`,
);
const find = statement<{ body_sha256: Buffer; body: string; response: Buffer }>(
  "request_find",
  `SELECT body_sha256, body, response FROM requests
   WHERE project_id = $1 AND method = $2 AND request_id = $3`,
);

/**
 * Claims a request id in the transaction of the request's effect, with the answer it will get.
 * A racing request with the same id waits here for the first to commit. Refused requests are not
 * recorded: their transaction rolls back.
 */
export async function claimRequest(
  tx: Tx,
  request: {
    readonly key: RequestKey;
    readonly body: RequestBody;
    readonly response: Uint8Array;
    readonly nowMs: number;
  },
): Promise<RequestOutcome> {
  const { key, body } = request;
  const id = [idToUuid(key.project), key.method, key.requestId];
  const rest = [body.sha256, body.text, Buffer.from(request.response), request.nowMs];
  const claimed = await tx.query(claim, [idToUuid(key.org), ...id, ...rest]);
  if (claimed.length === 1) return { kind: "new" };
  const found = await findRequest(tx, key, body);
  if (found.kind !== "new") return found;
  // Seen by the constraint, not by us: it belongs to another organisation's rows or was just pruned.
  throw new Fault("UNAVAILABLE", "the request id is being removed", { retryAfterMs: 100 });
}

/** Looks a request up without claiming it: the quick answer to a repeated request. */
export async function findRequest(
  db: Querier,
  key: RequestKey,
  body: RequestBody,
): Promise<RequestOutcome> {
  const [row] = await db.query(find, [idToUuid(key.project), key.method, key.requestId]);
  if (row === undefined) return { kind: "new" };
  return compareRequest(row, body);
}

/** Compares a stored row of `requests` with a body: for batches that read many rows at once. */
export function compareRequest(
  row: { readonly body_sha256: Buffer; readonly body: string; readonly response: Buffer },
  body: RequestBody,
): RequestOutcome {
  if (row.body_sha256.equals(body.sha256)) return { kind: "replay", response: row.response };
  const field = firstDifference(JSON.parse(row.body) as Json, JSON.parse(body.text) as Json, "");
  return { kind: "conflict", field: field ?? "" };
}

/** The conflict as the Fault that clients get. */
export function requestReused(key: RequestKey, field: string): Fault {
  return new Fault(
    "REQUEST_ID_REUSED",
    `request_id ${key.requestId} was used with another ${field}`,
    {
      violations: [{ field, description: "differs from the first request with this request_id" }],
      hint: "use a new request_id for a new request",
    },
  );
}

const prune = statement<{ request_id: string }>(
  "request_prune",
  `DELETE FROM requests WHERE ctid IN
     (SELECT ctid FROM requests WHERE created_ms < $1 ORDER BY created_ms LIMIT $2)
   RETURNING request_id`,
);

/** How long request ids are kept: 7 days. */
export const REQUEST_RETENTION_MS = 7 * 24 * 3_600_000;

/** Removes at most `limit` request ids older than the retention; returns how many. */
export async function pruneRequests(
  db: Querier,
  options: { nowMs: number; limit: number },
): Promise<number> {
  const rows = await db.query(prune, [options.nowMs - REQUEST_RETENTION_MS, options.limit]);
  return rows.length;
}

function canonical(value: Json): string {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (isList(value)) return `[${value.map(canonical).join(",")}]`;
  const parts = Object.keys(value)
    .sort()
    .map((key) => `${JSON.stringify(key)}:${canonical(value[key] ?? null)}`);
  return `{${parts.join(",")}}`;
}

/** Path of the first field, in alphabetical order, in which two values differ. */
function firstDifference(a: Json, b: Json, path: string): string | undefined {
  if (isObject(a) && isObject(b)) {
    for (const key of [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()) {
      const inner = path === "" ? key : `${path}.${key}`;
      if (!(key in a) || !(key in b)) return inner;
      const found = firstDifference(a[key] ?? null, b[key] ?? null, inner);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  if (isList(a) && isList(b)) {
    for (let i = 0; i < Math.max(a.length, b.length); i += 1) {
      if (i >= a.length || i >= b.length) return `${path}[${i}]`;
      const found = firstDifference(a[i] ?? null, b[i] ?? null, `${path}[${i}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
  return canonical(a) === canonical(b) ? undefined : path;
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
