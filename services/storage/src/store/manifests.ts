import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { ManifestFile } from "../manifest.ts";

/** What an attempt left. */
export interface StoredManifest {
  readonly orgId: OrgId;
  readonly projectId: ProjectId;
  readonly digest: string;
  readonly attempt: string;
  /** By path. */
  readonly files: readonly ManifestFile[];
  readonly createdMs: number;
}

const insert = statement(
  "manifest_insert",
  `INSERT INTO manifests (project_id, digest, org_id, attempt, files, created_ms)
   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
);
const get = statement<{ files: ManifestFile[] }>(
  "manifest_get",
  "SELECT files FROM manifests WHERE project_id = $1 AND digest = $2",
);

const remove = statement<{ files: ManifestFile[] }>(
  "manifest_remove",
  "DELETE FROM manifests WHERE project_id = $1 AND digest = $2 RETURNING files",
);

/** Removes a manifest; answers its files. */
export async function removeManifest(
  tx: Tx,
  projectId: ProjectId,
  digest: string,
): Promise<readonly ManifestFile[]> {
  const [row] = await tx.query(remove, [idToUuid(projectId), digest]);
  return row?.files ?? [];
}

/** Keeps a manifest; one with the same digest is the same one. */
export async function insertManifest(tx: Tx, manifest: StoredManifest): Promise<void> {
  await tx.query(insert, [
    idToUuid(manifest.projectId),
    manifest.digest,
    idToUuid(manifest.orgId),
    manifest.attempt,
    JSON.stringify(manifest.files),
    manifest.createdMs,
  ]);
}

/** The files of a manifest. */
export async function getManifestFiles(
  db: Querier,
  projectId: ProjectId,
  digest: string,
): Promise<ManifestFile[] | undefined> {
  const [row] = await db.query(get, [idToUuid(projectId), digest]);
  return row?.files;
}
