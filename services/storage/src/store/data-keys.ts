import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";

const get = statement<{ sealed: Buffer }>(
  "data_key_get",
  "SELECT sealed FROM data_keys WHERE org_id = $1",
);
const insert = statement(
  "data_key_insert",
  "INSERT INTO data_keys (org_id, sealed, created_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
);

/** An organisation's data key as it is kept: sealed under the master key. */
export async function getSealedDataKey(db: Querier, org: OrgId): Promise<Buffer | undefined> {
  const [row] = await db.query(get, [idToUuid(org)]);
  return row?.sealed;
}

/** Adds a data key where there is none; the first one stays. */
export async function insertSealedDataKey(
  db: Querier,
  key: { readonly org: OrgId; readonly sealed: Buffer; readonly nowMs: number },
): Promise<void> {
  await db.query(insert, [idToUuid(key.org), key.sealed, key.nowMs]);
}
