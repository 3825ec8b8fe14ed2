import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { ApiKeyId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Role } from "@fastgpu/domain/roles";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** Roles that a key can have; workers and services have credentials of their own. */
export const keyRoles = [
  "platform_operator",
  "org_admin",
  "project_editor",
  "project_viewer",
] as const satisfies readonly Role[];
export type KeyRole = (typeof keyRoles)[number];

/** What is kept of an API key. */
export interface ApiKey {
  readonly keyId: ApiKeyId;
  readonly orgId: OrgId;
  /** The one project it acts on; undefined: the whole organisation. */
  readonly projectId: ProjectId | undefined;
  readonly displayName: string;
  readonly role: KeyRole;
  readonly mac: Buffer;
  /** The principal that made it. */
  readonly createdBy: string;
  readonly createdMs: number;
  readonly expiresMs: number | undefined;
  readonly revokedMs: number | undefined;
}

interface Row {
  readonly key_id: string;
  readonly org_id: string;
  readonly project_id: string | null;
  readonly display_name: string;
  readonly role: KeyRole;
  readonly mac: Buffer;
  readonly created_by: string;
  readonly created_ms: bigint;
  readonly expires_ms: bigint | null;
  readonly revoked_ms: bigint | null;
}

const columns =
  "key_id, org_id, project_id, display_name, role, mac, created_by, created_ms, expires_ms, revoked_ms";
const insert = statement(
  "api_key_insert",
  `INSERT INTO api_keys (${columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULL)`,
);
const get = statement<Row>("api_key_get", `SELECT ${columns} FROM api_keys WHERE key_id = $1`);
const list = statement<Row>(
  "api_key_list",
  `SELECT ${columns} FROM api_keys
   WHERE org_id = $1 AND ($2::uuid IS NULL OR key_id > $2) ORDER BY key_id LIMIT $3`,
);
const revoke = statement<Row>(
  "api_key_revoke",
  `UPDATE api_keys SET revoked_ms = $2 WHERE key_id = $1 AND revoked_ms IS NULL RETURNING ${columns}`,
);

/** Adds a key to the transaction's tenant. */
export async function insertApiKey(tx: Tx, key: Omit<ApiKey, "revokedMs">): Promise<void> {
  await tx.query(insert, [
    idToUuid(key.keyId),
    idToUuid(key.orgId),
    key.projectId === undefined ? null : idToUuid(key.projectId),
    key.displayName,
    key.role,
    key.mac,
    key.createdBy,
    key.createdMs,
    key.expiresMs ?? null,
  ]);
}

/** One key that the caller of the database may see. */
export async function getApiKey(db: Querier, keyId: ApiKeyId): Promise<ApiKey | undefined> {
  const [row] = await db.query(get, [idToUuid(keyId)]);
  return row === undefined ? undefined : toApiKey(row);
}

/** Keys of an organisation behind `after` in order of creation. */
export async function listApiKeys(
  db: Querier,
  page: { orgId: OrgId; after: ApiKeyId | undefined; limit: number },
): Promise<ApiKey[]> {
  const after = page.after === undefined ? null : idToUuid(page.after);
  const rows = await db.query(list, [idToUuid(page.orgId), after, page.limit]);
  return rows.map(toApiKey);
}

/** Revokes a key; undefined where it is unknown or revoked already. */
export async function revokeApiKey(
  tx: Tx,
  keyId: ApiKeyId,
  nowMs: number,
): Promise<ApiKey | undefined> {
  const [row] = await tx.query(revoke, [idToUuid(keyId), nowMs]);
  return row === undefined ? undefined : toApiKey(row);
}

function toApiKey(row: Row): ApiKey {
  return {
    keyId: uuidToId("key", row.key_id),
    orgId: uuidToId("org", row.org_id),
    projectId: row.project_id === null ? undefined : uuidToId("proj", row.project_id),
    displayName: row.display_name,
    role: row.role,
    mac: row.mac,
    createdBy: row.created_by,
    createdMs: Number(row.created_ms),
    expiresMs: row.expires_ms === null ? undefined : Number(row.expires_ms),
    revokedMs: row.revoked_ms === null ? undefined : Number(row.revoked_ms),
  };
}
