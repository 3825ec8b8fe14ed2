import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { ArtifactId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A stored file. */
export interface Artifact {
  readonly artifactId: ArtifactId;
  readonly orgId: OrgId;
  readonly projectId: ProjectId;
  readonly uploadId: string;
  readonly displayName: string;
  /** What the uploader expected; empty where it did not say. */
  readonly expectedSha256: string;
  readonly attempt: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly createdMs: number;
}

interface Row {
  readonly artifact_id: string;
  readonly org_id: string;
  readonly project_id: string;
  readonly upload_id: string;
  readonly display_name: string;
  readonly expected_sha256: string;
  readonly attempt: string;
  readonly size_bytes: bigint;
  readonly sha256: string;
  readonly created_ms: bigint;
}

const columns =
  "artifact_id, org_id, project_id, upload_id, display_name, expected_sha256, attempt, size_bytes, sha256, created_ms";
const insert = statement(
  "artifact_insert",
  `INSERT INTO artifacts (${columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
);
const get = statement<Row>(
  "artifact_get",
  `SELECT ${columns} FROM artifacts WHERE project_id = $1 AND artifact_id = $2`,
);
const getByUpload = statement<Row>(
  "artifact_get_by_upload",
  `SELECT ${columns} FROM artifacts WHERE project_id = $1 AND upload_id = $2`,
);
const list = statement<Row>(
  "artifact_list",
  `SELECT ${columns} FROM artifacts
   WHERE project_id = $1 AND ($2::uuid IS NULL OR artifact_id < $2)
   ORDER BY artifact_id DESC LIMIT $3`,
);
const getMany = statement<Row>(
  "artifact_get_many",
  `SELECT ${columns} FROM artifacts WHERE project_id = $1 AND artifact_id = ANY($2::uuid[])`,
);

const removeMany = statement(
  "artifact_remove_many",
  "DELETE FROM artifacts WHERE project_id = $1 AND artifact_id = ANY($2::uuid[])",
);

/** Removes stored files; their chunks' names are left. */
export async function removeArtifacts(
  tx: Tx,
  projectId: ProjectId,
  artifactIds: readonly ArtifactId[],
): Promise<void> {
  await tx.query(removeMany, [idToUuid(projectId), artifactIds.map(idToUuid)]);
}

/** Adds a stored file. */
export async function insertArtifact(tx: Tx, artifact: Artifact): Promise<void> {
  await tx.query(insert, [
    idToUuid(artifact.artifactId),
    idToUuid(artifact.orgId),
    idToUuid(artifact.projectId),
    artifact.uploadId,
    artifact.displayName,
    artifact.expectedSha256,
    artifact.attempt,
    artifact.sizeBytes,
    artifact.sha256,
    artifact.createdMs,
  ]);
}

/** One file of a project. */
export async function getArtifact(
  db: Querier,
  projectId: ProjectId,
  artifactId: ArtifactId,
): Promise<Artifact | undefined> {
  const [row] = await db.query(get, [idToUuid(projectId), idToUuid(artifactId)]);
  return row === undefined ? undefined : toArtifact(row);
}

/** The file that an upload became. */
export async function getArtifactOfUpload(
  db: Querier,
  projectId: ProjectId,
  uploadId: string,
): Promise<Artifact | undefined> {
  const [row] = await db.query(getByUpload, [idToUuid(projectId), uploadId]);
  return row === undefined ? undefined : toArtifact(row);
}

/** Files of a project made before `before`, newest first. */
export async function listArtifacts(
  db: Querier,
  page: { projectId: ProjectId; before: ArtifactId | undefined; limit: number },
): Promise<Artifact[]> {
  const before = page.before === undefined ? null : idToUuid(page.before);
  const rows = await db.query(list, [idToUuid(page.projectId), before, page.limit]);
  return rows.map(toArtifact);
}

/** Those of the given files that the project has. */
export async function getArtifacts(
  db: Querier,
  projectId: ProjectId,
  artifactIds: readonly ArtifactId[],
): Promise<Artifact[]> {
  const rows = await db.query(getMany, [idToUuid(projectId), artifactIds.map(idToUuid)]);
  return rows.map(toArtifact);
}

function toArtifact(row: Row): Artifact {
  return {
    artifactId: uuidToId("art", row.artifact_id),
    orgId: uuidToId("org", row.org_id),
    projectId: uuidToId("proj", row.project_id),
    uploadId: row.upload_id,
    displayName: row.display_name,
    expectedSha256: row.expected_sha256,
    attempt: row.attempt,
    sizeBytes: Number(row.size_bytes),
    sha256: row.sha256,
    createdMs: Number(row.created_ms),
  };
}
