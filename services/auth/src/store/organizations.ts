import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A tenant. */
export interface Organization {
  readonly orgId: OrgId;
  readonly displayName: string;
  readonly createdMs: number;
}

interface Row {
  readonly org_id: string;
  readonly display_name: string;
  readonly created_ms: bigint;
}

const insert = statement(
  "organization_insert",
  "INSERT INTO organizations (org_id, display_name, created_ms) VALUES ($1, $2, $3)",
);
const get = statement<Row>(
  "organization_get",
  "SELECT org_id, display_name, created_ms FROM organizations WHERE org_id = $1",
);
const list = statement<Row>(
  "organization_list",
  `SELECT org_id, display_name, created_ms FROM organizations
   WHERE $1::uuid IS NULL OR org_id > $1 ORDER BY org_id LIMIT $2`,
);

/** Adds an organisation; the transaction's tenant must be that organisation. */
export async function insertOrganization(tx: Tx, organization: Organization): Promise<void> {
  const { orgId, displayName, createdMs } = organization;
  await tx.query(insert, [idToUuid(orgId), displayName, createdMs]);
}

/** One organisation that the transaction may see. */
export async function getOrganization(
  db: Querier,
  orgId: OrgId,
): Promise<Organization | undefined> {
  const [row] = await db.query(get, [idToUuid(orgId)]);
  return row === undefined ? undefined : toOrganization(row);
}

/** Organisations behind `after` in order of their ids, which is the order of creation. */
export async function listOrganizations(
  db: Querier,
  page: { after: OrgId | undefined; limit: number },
): Promise<Organization[]> {
  const after = page.after === undefined ? null : idToUuid(page.after);
  const rows = await db.query(list, [after, page.limit]);
  return rows.map(toOrganization);
}

function toOrganization(row: Row): Organization {
  return {
    orgId: uuidToId("org", row.org_id),
    displayName: row.display_name,
    createdMs: Number(row.created_ms),
  };
}
