import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { ArtifactId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";

/** A manifest that is a task's checkpoint. */
export interface StoredCheckpoint {
  readonly orgId: OrgId;
  readonly projectId: ProjectId;
  readonly task: TaskId;
  /** Rank in its gang, from 0. */
  readonly member: number;
  /** Of the attempt that left it. */
  readonly epoch: bigint;
  readonly digest: string;
  readonly expiresMs: number;
}

const insert = statement(
  "checkpoint_insert",
  `INSERT INTO checkpoints (project_id, org_id, task_id, member, epoch, digest, expires_ms)
   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
);
const supersede = statement(
  "checkpoint_supersede",
  `UPDATE checkpoints SET expires_ms = least(expires_ms, $6)
   WHERE project_id = $1 AND task_id = $2 AND member = $3 AND epoch < $4 AND digest <> $5`,
);
const expire = statement(
  "checkpoint_expire",
  `UPDATE checkpoints c SET expires_ms = least(c.expires_ms, e.expires_ms)
   FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) e (project_id, task_id, expires_ms)
   WHERE c.project_id = e.project_id AND c.task_id = e.task_id`,
);
const takeExpired = statement<{ project_id: string; digest: string }>(
  "checkpoint_take_expired",
  `DELETE FROM checkpoints WHERE (project_id, task_id, member, epoch, digest) IN (
     SELECT project_id, task_id, member, epoch, digest FROM checkpoints WHERE expires_ms <= $1
     ORDER BY expires_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
   RETURNING project_id, digest`,
);

const has = statement(
  "checkpoint_has",
  `SELECT 1 FROM checkpoints
   WHERE project_id = $1 AND task_id = $2 AND member = $3 AND digest = $4 LIMIT 1`,
);
const isOf = statement(
  "checkpoint_is_of",
  `SELECT 1 FROM checkpoints c
     JOIN manifests m ON m.project_id = c.project_id AND m.digest = c.digest
     JOIN artifacts a ON a.project_id = m.project_id AND a.attempt = m.attempt
   WHERE c.project_id = $1 AND c.task_id = $2 AND c.member = $3 AND a.artifact_id = $4 LIMIT 1`,
);

/** Whose checkpoints are meant. */
export interface CheckpointOwner {
  readonly projectId: ProjectId;
  readonly task: TaskId;
  /** Rank in its gang, from 0. */
  readonly member: number;
}

/** Whether this manifest is one of the owner's checkpoints. */
export async function hasCheckpoint(
  tx: Tx,
  of: CheckpointOwner & { readonly digest: string },
): Promise<boolean> {
  const { projectId, task, member, digest } = of;
  return (await tx.query(has, [idToUuid(projectId), idToUuid(task), member, digest])).length > 0;
}

/** Whether an attempt that has left one of the owner's checkpoints has stored this file. */
export async function isOfCheckpoint(
  tx: Tx,
  of: CheckpointOwner & { readonly artifact: ArtifactId },
): Promise<boolean> {
  const { projectId, task, member, artifact } = of;
  const rows = await tx.query(isOf, [
    ...[idToUuid(projectId), idToUuid(task), member],
    idToUuid(artifact),
  ]);
  return rows.length > 0;
}

/**
 * Notes a checkpoint. Those of earlier epochs of the same member go, but for the one that its attempt resumed from: until
 * the attempt's end is accepted, that one is what the next attempt would get.
 */
export async function insertCheckpoint(
  tx: Tx,
  checkpoint: StoredCheckpoint,
  of: { readonly resumedDigest: string; readonly nowMs: number },
): Promise<void> {
  const { projectId, orgId, task, member, epoch, digest, expiresMs } = checkpoint;
  const whose = [idToUuid(projectId), idToUuid(task), member, epoch] as const;
  await tx.query(supersede, [...whose, of.resumedDigest, of.nowMs]);
  const [project, ...rest] = whose;
  await tx.query(insert, [project, idToUuid(orgId), ...rest, digest, expiresMs]);
}

/** Lets the checkpoints of tasks go at these times, in milliseconds; earlier where they were to go earlier. */
export async function expireCheckpoints(
  tx: Tx,
  ends: readonly { readonly project: ProjectId; readonly task: TaskId; readonly atMs: number }[],
): Promise<void> {
  if (ends.length === 0) return;
  await tx.query(expire, [
    ends.map(({ project }) => idToUuid(project)),
    ends.map(({ task }) => idToUuid(task)),
    ends.map(({ atMs }) => atMs),
  ]);
}

/** Forgets checkpoints whose time has come; answers their manifests. */
export async function takeExpiredCheckpoints(
  tx: Tx,
  of: { readonly nowMs: number; readonly limit: number },
): Promise<{ readonly projectId: ProjectId; readonly digest: string }[]> {
  const rows = await tx.query(takeExpired, [of.nowMs, of.limit]);
  return rows.map((row) => ({ projectId: uuidToId("proj", row.project_id), digest: row.digest }));
}
