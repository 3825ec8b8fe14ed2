import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { nullableArray, plainArray, textArray } from "./arrays.ts";

/** GPUs of one SKU at the price that the attempt keeps. */
export interface PinnedItem {
  readonly sku: string;
  readonly version: number;
  readonly quantity: number;
}

/** A row of holds. */
export interface HoldRow {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly account: string;
  readonly status: "open" | "closed" | "voided";
  readonly leaderEpoch: bigint;
  readonly items: readonly PinnedItem[];
  readonly fundedMs: number;
  readonly heldNanos: bigint;
  readonly chargedNanos: bigint;
  readonly extension: number;
  readonly pendingId: string | undefined;
  /** The most that all attempts of its task may cost together. */
  readonly maxCostNanos: bigint | undefined;
}

const lock = statement<{
  attempt_id: string;
  task_id: string;
  org_id: string;
  project_id: string;
  account_id: string;
  status: "open" | "closed" | "voided";
  leader_epoch: bigint;
  items: PinnedItem[];
  funded_ms: bigint;
  held: bigint;
  charged: bigint;
  extension: number;
  pending_id: string | null;
  max_cost: bigint | null;
}>(
  "lock_holds",
  `SELECT attempt_id, task_id, org_id, project_id, account_id, status, leader_epoch, items, funded_ms, held, charged,
     extension, pending_id, max_cost
   FROM holds WHERE attempt_id = ANY ($1::uuid[]) ORDER BY attempt_id FOR UPDATE`,
);

/** Locks holds, after their accounts. Attempts without one are missing in the answer. */
export async function lockHolds(
  tx: Tx,
  attempts: Iterable<AttemptId>,
): Promise<Map<AttemptId, HoldRow>> {
  const rows = await tx.query(lock, [plainArray([...new Set(attempts)].map(idToUuid))]);
  const holds = new Map<AttemptId, HoldRow>();
  for (const row of rows) {
    const attempt = uuidToId("att", row.attempt_id);
    holds.set(attempt, {
      attempt,
      task: uuidToId("task", row.task_id),
      org: uuidToId("org", row.org_id),
      project: uuidToId("proj", row.project_id),
      account: row.account_id,
      status: row.status,
      leaderEpoch: row.leader_epoch,
      items: row.items,
      fundedMs: Number(row.funded_ms),
      heldNanos: row.held,
      chargedNanos: row.charged,
      extension: row.extension,
      pendingId: row.pending_id ?? undefined,
      maxCostNanos: row.max_cost ?? undefined,
    });
  }
  return holds;
}

const orgs = statement<{ org_id: string }>(
  "orgs_of_holds",
  "SELECT DISTINCT org_id FROM holds WHERE attempt_id = ANY ($1::uuid[])",
);

/** The organisations that holds belong to (which never changes): whose accounts to lock before the holds. */
export async function orgsOfHolds(tx: Tx, attempts: readonly AttemptId[]): Promise<OrgId[]> {
  const rows = await tx.query(orgs, [plainArray(attempts.map(idToUuid))]);
  return rows.map((row) => uuidToId("org", row.org_id));
}

const upsert = statement(
  "upsert_holds",
  `INSERT INTO holds (attempt_id, task_id, org_id, project_id, account_id, status, leader_epoch, items, funded_ms,
     held, charged, extension, pending_id, max_cost, opened_at, closed_at)
   SELECT attempt, task, org, project, account, status, epoch, items::jsonb, funded, held, charged, extension, pending, cap,
     $1::timestamptz, CASE WHEN status = 'open' THEN NULL ELSE $1::timestamptz END
   FROM unnest($2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::text[], $8::bigint[], $9::text[],
     $10::bigint[], $11::bigint[], $12::bigint[], $13::integer[], $14::uuid[], $15::bigint[])
     AS h (attempt, task, org, project, account, status, epoch, items, funded, held, charged, extension, pending, cap)
   ON CONFLICT (attempt_id) DO UPDATE SET
     status = excluded.status, funded_ms = excluded.funded_ms, held = excluded.held, charged = excluded.charged,
     extension = excluded.extension, pending_id = excluded.pending_id, closed_at = excluded.closed_at`,
);

/** Writes holds, new and changed ones, in one statement. */
export async function writeHolds(tx: Tx, rows: readonly HoldRow[], nowMs: number): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(upsert, [
    new Date(nowMs),
    plainArray(rows.map((row) => idToUuid(row.attempt))),
    plainArray(rows.map((row) => idToUuid(row.task))),
    plainArray(rows.map((row) => idToUuid(row.org))),
    plainArray(rows.map((row) => idToUuid(row.project))),
    plainArray(rows.map((row) => row.account)),
    plainArray(rows.map((row) => row.status)),
    plainArray(rows.map((row) => row.leaderEpoch)),
    textArray(rows.map((row) => JSON.stringify(row.items))),
    plainArray(rows.map((row) => row.fundedMs)),
    plainArray(rows.map((row) => row.heldNanos)),
    plainArray(rows.map((row) => row.chargedNanos)),
    plainArray(rows.map((row) => row.extension)),
    nullableArray(rows.map((row) => row.pendingId)),
    nullableArray(rows.map((row) => row.maxCostNanos?.toString())),
  ]);
}

const update = statement(
  "update_holds",
  `UPDATE holds h SET status = n.status, charged = n.charged, pending_id = n.pending,
     closed_at = CASE WHEN n.status = 'open' THEN NULL ELSE $1::timestamptz END
   FROM unnest($2::uuid[], $3::text[], $4::bigint[], $5::uuid[]) AS n (attempt, status, charged, pending)
   WHERE h.attempt_id = n.attempt`,
);

/** Writes what a charge changes of holds that are there: half the cost of {@link writeHolds}. */
export async function writeCharges(tx: Tx, rows: readonly HoldRow[], nowMs: number): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(update, [
    new Date(nowMs),
    plainArray(rows.map((row) => idToUuid(row.attempt))),
    plainArray(rows.map((row) => row.status)),
    plainArray(rows.map((row) => row.chargedNanos)),
    nullableArray(rows.map((row) => row.pendingId)),
  ]);
}

/** What a task has used of what it may cost. */
export interface Committed {
  /** Charged by holds that are closed, and held by those that are open. */
  readonly nanos: bigint;
  /** Whether one is open: part of it may come back. */
  readonly open: boolean;
}

const spent = statement<{ task_id: string; nanos: bigint; open: boolean }>(
  "spent_by_task",
  `SELECT task_id, sum(CASE WHEN status = 'open' THEN held ELSE charged END)::bigint AS nanos,
     bool_or(status = 'open') AS open
   FROM holds WHERE task_id = ANY ($1::uuid[]) GROUP BY task_id`,
);

/** What tasks have cost and may still cost by the holds that they have, in nano-units; their accounts are locked. */
export async function committedNanos(
  tx: Tx,
  tasks: Iterable<TaskId>,
): Promise<Map<TaskId, Committed>> {
  const ids = [...new Set(tasks)];
  if (ids.length === 0) return new Map();
  const rows = await tx.query(spent, [plainArray(ids.map(idToUuid))]);
  return new Map(
    rows.map(({ task_id: task, nanos, open }) => [uuidToId("task", task), { nanos, open }]),
  );
}

const open = statement<{ attempt_id: string }>(
  "open_holds",
  `SELECT attempt_id FROM holds WHERE status = 'open' AND leader_epoch < $1 AND attempt_id > $2
   ORDER BY attempt_id LIMIT 1000`,
);
const nil = "00000000-0000-0000-0000-000000000000";

/** At most 1,000 open holds that leaders before `epoch` made, in order of attempt. */
export async function listOpenHolds(
  from: Querier,
  epoch: bigint,
  after: AttemptId | undefined,
): Promise<AttemptId[]> {
  const rows = await from.query(open, [epoch, after === undefined ? nil : idToUuid(after)]);
  return rows.map((row) => uuidToId("att", row.attempt_id));
}

const markVoided = statement(
  "mark_voided",
  `INSERT INTO voided_attempts (attempt_id, voided_at) SELECT attempt, $1 FROM unnest($2::uuid[]) AS a (attempt)
   ON CONFLICT DO NOTHING`,
);

/** Remembers attempts that were voided before their hold arrived. */
export async function rememberVoided(
  tx: Tx,
  attempts: readonly AttemptId[],
  nowMs: number,
): Promise<void> {
  if (attempts.length === 0) return;
  await tx.query(markVoided, [new Date(nowMs), plainArray(attempts.map(idToUuid))]);
}

const findVoided = statement<{ attempt_id: string }>(
  "find_voided",
  "SELECT attempt_id FROM voided_attempts WHERE attempt_id = ANY ($1::uuid[])",
);

/** Which of these attempts were voided before their hold arrived. */
export async function voidedBefore(
  tx: Tx,
  attempts: readonly AttemptId[],
): Promise<Set<AttemptId>> {
  const rows = await tx.query(findVoided, [plainArray(attempts.map(idToUuid))]);
  return new Set(rows.map((row) => uuidToId("att", row.attempt_id)));
}

const forget = statement<{ attempt_id: string }>(
  "forget_voided",
  `DELETE FROM voided_attempts WHERE attempt_id IN
     (SELECT attempt_id FROM voided_attempts WHERE voided_at < $1 LIMIT $2)
   RETURNING attempt_id`,
);

/** Longest time for which a create may still be on its way, in milliseconds: a day is ages. */
const VOIDED_KEEP_MS = 24 * 3_600_000;

/** Forgets voids that no create can come after any more, at most `limit`; returns how many. */
export async function forgetVoided(
  from: Querier,
  options: { nowMs: number; limit: number },
): Promise<number> {
  const before = new Date(options.nowMs - VOIDED_KEEP_MS);
  return (await from.query(forget, [before, options.limit])).length;
}
