import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A part of an organisation. */
export interface Project {
  readonly projectId: ProjectId;
  readonly orgId: OrgId;
  readonly displayName: string;
  readonly createdMs: number;
}

interface Row {
  readonly project_id: string;
  readonly org_id: string;
  readonly display_name: string;
  readonly created_ms: bigint;
}

const columns = "project_id, org_id, display_name, created_ms";
const insert = statement(
  "project_insert",
  `INSERT INTO projects (${columns}) VALUES ($1, $2, $3, $4)`,
);
const get = statement<Row>("project_get", `SELECT ${columns} FROM projects WHERE project_id = $1`);
const list = statement<Row>(
  "project_list",
  `SELECT ${columns} FROM projects
   WHERE org_id = $1 AND ($2::uuid IS NULL OR project_id > $2) ORDER BY project_id LIMIT $3`,
);

/** Adds a project to the transaction's tenant. */
export async function insertProject(tx: Tx, project: Project): Promise<void> {
  const { projectId, orgId, displayName, createdMs } = project;
  await tx.query(insert, [idToUuid(projectId), idToUuid(orgId), displayName, createdMs]);
}

/** One project that the caller of the database may see. */
export async function getProject(db: Querier, projectId: ProjectId): Promise<Project | undefined> {
  const [row] = await db.query(get, [idToUuid(projectId)]);
  return row === undefined ? undefined : toProject(row);
}

/** Projects of an organisation behind `after` in order of their ids, which is the order of creation. */
export async function listProjects(
  db: Querier,
  page: { orgId: OrgId; after: ProjectId | undefined; limit: number },
): Promise<Project[]> {
  const after = page.after === undefined ? null : idToUuid(page.after);
  const rows = await db.query(list, [idToUuid(page.orgId), after, page.limit]);
  return rows.map(toProject);
}

function toProject(row: Row): Project {
  return {
    projectId: uuidToId("proj", row.project_id),
    orgId: uuidToId("org", row.org_id),
    displayName: row.display_name,
    createdMs: Number(row.created_ms),
  };
}
