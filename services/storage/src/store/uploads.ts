import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { ArtifactId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A file on its way. */
export interface Upload {
  readonly uploadId: string;
  readonly orgId: OrgId;
  readonly projectId: ProjectId;
  /** The id that the artifact will have. */
  readonly artifactId: ArtifactId;
  readonly displayName: string;
  /** Hexadecimal; empty: not checked. */
  readonly expectedSha256: string;
  readonly attempt: string;
  /** Bytes of whole chunks that are durable. */
  readonly committedBytes: number;
}

interface Row {
  readonly upload_id: string;
  readonly org_id: string;
  readonly project_id: string;
  readonly artifact_id: string;
  readonly display_name: string;
  readonly expected_sha256: string;
  readonly attempt: string;
  readonly committed_bytes: bigint;
}

const columns =
  "upload_id, org_id, project_id, artifact_id, display_name, expected_sha256, attempt, committed_bytes";
const get = statement<Row>(
  "upload_get",
  `SELECT ${columns} FROM uploads WHERE project_id = $1 AND upload_id = $2`,
);
const insert = statement<{ upload_id: string }>(
  "upload_insert",
  `INSERT INTO uploads (${columns}, writer, created_ms, updated_ms)
   VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, $9, $9) ON CONFLICT DO NOTHING RETURNING upload_id`,
);
const takeOver = statement<{ upload_id: string }>(
  "upload_take_over",
  `UPDATE uploads SET writer = $3, committed_bytes = $4, updated_ms = $5
   WHERE project_id = $1 AND upload_id = $2 AND committed_bytes >= $4 RETURNING upload_id`,
);
const advance = statement<{ upload_id: string }>(
  "upload_advance",
  `UPDATE uploads SET committed_bytes = $4, updated_ms = $5
   WHERE project_id = $1 AND upload_id = $2 AND writer = $3 RETURNING upload_id`,
);
const finish = statement<{ upload_id: string }>(
  "upload_finish",
  `DELETE FROM uploads WHERE project_id = $1 AND upload_id = $2 AND writer = $3 RETURNING upload_id`,
);
const removeIdle = statement<{ artifact_id: string }>(
  "upload_remove_idle",
  `DELETE FROM uploads WHERE ctid IN
     (SELECT ctid FROM uploads WHERE updated_ms < $1 ORDER BY updated_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
   RETURNING artifact_id`,
);

/** One upload that the transaction may see. */
export async function getUpload(
  db: Querier,
  projectId: ProjectId,
  uploadId: string,
): Promise<Upload | undefined> {
  const [row] = await db.query(get, [idToUuid(projectId), uploadId]);
  if (row === undefined) return undefined;
  return {
    uploadId: row.upload_id,
    orgId: uuidToId("org", row.org_id),
    projectId: uuidToId("proj", row.project_id),
    artifactId: uuidToId("art", row.artifact_id),
    displayName: row.display_name,
    expectedSha256: row.expected_sha256,
    attempt: row.attempt,
    committedBytes: Number(row.committed_bytes),
  };
}

/** Begins an upload; false where another stream has begun the same one just now. */
export async function insertUpload(
  tx: Tx,
  upload: Omit<Upload, "committedBytes">,
  by: { readonly writer: string; readonly nowMs: number },
): Promise<boolean> {
  const rows = await tx.query(insert, [
    upload.uploadId,
    idToUuid(upload.orgId),
    idToUuid(upload.projectId),
    idToUuid(upload.artifactId),
    upload.displayName,
    upload.expectedSha256,
    upload.attempt,
    by.writer,
    by.nowMs,
  ]);
  return rows.length === 1;
}

/** Who writes an upload, from where. */
export interface UploadWriter {
  readonly upload: Pick<Upload, "projectId" | "uploadId">;
  /** UUID of the stream. */
  readonly writer: string;
}

/** Makes a stream the only writer, from `offset` on; false where less than that is durable. */
export async function takeOverUpload(
  tx: Tx,
  by: UploadWriter,
  at: { readonly offset: number; readonly nowMs: number },
): Promise<boolean> {
  return changed(tx, takeOver, by, [at.offset, at.nowMs]);
}

/** Notes how much is durable; false where another stream has taken over. */
export async function advanceUpload(
  tx: Tx,
  by: UploadWriter,
  at: { readonly committedBytes: number; readonly nowMs: number },
): Promise<boolean> {
  return changed(tx, advance, by, [at.committedBytes, at.nowMs]);
}

/** Ends an upload, complete or refused; false where another stream has taken over. */
export async function finishUpload(tx: Tx, by: UploadWriter): Promise<boolean> {
  return changed(tx, finish, by, []);
}

async function changed(
  tx: Tx,
  what: typeof advance,
  by: UploadWriter,
  values: readonly unknown[],
): Promise<boolean> {
  const { upload, writer } = by;
  const rows = await tx.query(what, [
    idToUuid(upload.projectId),
    upload.uploadId,
    writer,
    ...values,
  ]);
  return rows.length === 1;
}

/** Removes uploads that nobody has written to since `beforeMs`; answers the artifact ids they had. */
export async function removeIdleUploads(
  tx: Tx,
  options: { readonly beforeMs: number; readonly limit: number },
): Promise<ArtifactId[]> {
  const rows = await tx.query(removeIdle, [options.beforeMs, options.limit]);
  return rows.map((row) => uuidToId("art", row.artifact_id));
}
