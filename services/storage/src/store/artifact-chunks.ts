import { idToUuid } from "@fastgpu/domain/ids";
import type { ArtifactId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { addressOf } from "../chunks/chunk-file.ts";
import type { ChunkAddress } from "../chunks/chunk-file.ts";

/** One chunk of a file. */
export interface ChunkRef {
  /** From 0. */
  readonly index: number;
  readonly address: ChunkAddress;
  readonly sizeBytes: number;
}

const lockShared = statement(
  "chunk_refs_lock_shared",
  "SELECT pg_advisory_xact_lock_shared(hashtextextended('storage.chunks.' || $1, 0))",
);
const lockExclusive = statement(
  "chunk_refs_lock_exclusive",
  "SELECT pg_advisory_xact_lock(hashtextextended('storage.chunks.' || $1, 0))",
);
const upsert = statement(
  "chunk_refs_upsert",
  `INSERT INTO artifact_chunks (artifact_id, org_id, project_id, index, address, size_bytes)
   SELECT $1, $2, $3, e.* FROM unnest($4::integer[], $5::bytea[], $6::integer[]) e
   ON CONFLICT (artifact_id, index) DO UPDATE
     SET address = excluded.address, size_bytes = excluded.size_bytes`,
);
const list = statement<{ index: number; address: Buffer; size_bytes: number }>(
  "chunk_refs_list",
  `SELECT index, address, size_bytes FROM artifact_chunks
   WHERE artifact_id = $1 AND index >= $2 ORDER BY index LIMIT $3`,
);
const removeFrom = statement(
  "chunk_refs_remove_from",
  "DELETE FROM artifact_chunks WHERE artifact_id = ANY($1::uuid[]) AND index >= $2",
);
const unreferenced = statement<{ address: Buffer }>(
  "chunk_refs_unreferenced",
  `SELECT c.address FROM unnest($2::bytea[]) AS c (address)
   WHERE NOT EXISTS (SELECT FROM artifact_chunks r WHERE r.org_id = $1 AND r.address = c.address)`,
);

/**
 * Names chunks before they are written or found on disk. From the commit on the collector leaves them alone, and what
 * it removed before is found missing and written again: so a chunk that is named is there, or is being written.
 */
export async function nameChunks(
  tx: Tx,
  of: { readonly artifactId: ArtifactId; readonly orgId: OrgId; readonly projectId: ProjectId },
  refs: readonly ChunkRef[],
): Promise<void> {
  if (refs.length === 0) return;
  await tx.query(lockShared, [of.orgId]);
  await tx.query(upsert, [
    idToUuid(of.artifactId),
    idToUuid(of.orgId),
    idToUuid(of.projectId),
    refs.map((ref) => ref.index),
    refs.map((ref) => Buffer.from(ref.address, "hex")),
    refs.map((ref) => ref.sizeBytes),
  ]);
}

/** Chunks of a file from `index` on, at most `limit`. */
export async function listChunks(
  db: Querier,
  from: { readonly artifactId: ArtifactId; readonly index: number; readonly limit: number },
): Promise<ChunkRef[]> {
  const rows = await db.query(list, [idToUuid(from.artifactId), from.index, from.limit]);
  return rows.map((row) => ({
    index: row.index,
    address: addressOf(row.address),
    sizeBytes: row.size_bytes,
  }));
}

/** Forgets the chunks of files from `index` on; the chunks themselves wait for the collector. */
export async function forgetChunks(
  tx: Tx,
  artifactIds: readonly ArtifactId[],
  index: number = 0,
): Promise<void> {
  if (artifactIds.length > 0) await tx.query(removeFrom, [artifactIds.map(idToUuid), index]);
}

/** Those of the given chunks that nothing names. No new name appears until the transaction ends. */
export async function lockUnnamedChunks(
  tx: Tx,
  orgId: OrgId,
  addresses: readonly ChunkAddress[],
): Promise<ChunkAddress[]> {
  await tx.query(lockExclusive, [orgId]);
  const rows = await tx.query(unreferenced, [
    idToUuid(orgId),
    addresses.map((address) => Buffer.from(address, "hex")),
  ]);
  return rows.map((row) => addressOf(row.address));
}
