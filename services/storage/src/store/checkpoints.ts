import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
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
