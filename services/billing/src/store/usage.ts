import type { AttemptId, GpuId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type { Rating, UsageKind } from "@fastgpu/ledger/rate";
import { violates } from "@fastgpu/postgres/errors";
import { statement } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import { copyOf, copyUsage } from "./usage-copy.ts";
import { nullableArray, plainArray, textArray } from "./arrays.ts";

/** A stretch of one GPU's time in one attempt. Milliseconds; billing times since the attempt's billing start. */
export interface Segment {
  readonly member: number;
  readonly gpu: GpuId;
  readonly seq: number;
  readonly kind: UsageKind;
  readonly sku: string;
  readonly priceVersion: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly billingStartMs: number;
  readonly billingEndMs: number;
  readonly simulated: boolean;
}

/** Whose time it was. */
export interface UsageOwner {
  readonly attempt: AttemptId;
  readonly task: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
}

/** A rated segment. */
export interface RatedSegment extends Rating {
  readonly owner: UsageOwner;
  readonly segment: Segment;
}

/**
 * Owners come once each and are looked up by position: an array of uuids is read in constant time, where a join would
 * be planned for ten rows and run for thousands.
 */
const insertRows = `INSERT INTO usage_records (attempt_id, member, gpu_id, seq, task_id, org_id, project_id, kind, sku,
    price_version, start_ms, end_ms, billing_start_ms, billing_end_ms, amount, free_reason, simulated)
  SELECT ($1::uuid[])[s.owner], s.member, s.gpu, s.seq, ($2::uuid[])[s.owner], ($3::uuid[])[s.owner],
    ($4::uuid[])[s.owner], s.kind, s.sku, s.version, s.start_ms, s.end_ms, s.billing_start_ms, s.billing_end_ms,
    s.amount, s.free_reason, s.simulated
  FROM unnest($5::integer[], $6::integer[], $7::uuid[], $8::integer[], $9::text[], $10::text[], $11::integer[],
      $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::text[], $18::boolean[])
    AS s (owner, member, gpu, seq, kind, sku, version, start_ms, end_ms, billing_start_ms, billing_end_ms, amount,
      free_reason, simulated)`;

const insertMissing = statement<{ attempt_id: string; amount: bigint; records: bigint }>(
  "insert_missing_usage",
  `WITH inserted AS (
     ${insertRows} ON CONFLICT (attempt_id, member, gpu_id, seq) DO NOTHING RETURNING attempt_id, amount
   )
   SELECT attempt_id, sum(amount)::bigint AS amount, count(*) AS records FROM inserted GROUP BY attempt_id`,
);

/** What a batch of segments added for one attempt. */
export interface AddedUsage {
  readonly amountNanos: bigint;
  readonly records: number;
}

/** Writes rated segments; throws on the first that is there already (see {@link isRepeatedUsage}). */
export async function insertUsage(tx: Tx, rated: readonly RatedSegment[]): Promise<void> {
  await tx.copyIn(copyUsage, copyOf(rated));
}

/** Whether an error says that a segment was there already. */
export function isRepeatedUsage(error: unknown): boolean {
  return violates(error, "usage_records_pkey");
}

/** Writes those rated segments that are not there yet and tells what they add to each attempt. */
export async function insertMissingUsage(
  tx: Tx,
  rated: readonly RatedSegment[],
): Promise<Map<AttemptId, AddedUsage>> {
  const rows = await tx.query(insertMissing, columnsOf(rated));
  return new Map(
    rows.map((row) => [
      uuidToId("att", row.attempt_id),
      { amountNanos: row.amount, records: Number(row.records) },
    ]),
  );
}

function columnsOf(rated: readonly RatedSegment[]): unknown[] {
  const uuid = uuids();
  const owners = new Map<UsageOwner, number>();
  for (const { owner } of rated) if (!owners.has(owner)) owners.set(owner, owners.size + 1);
  const ownerColumn = (key: keyof UsageOwner): string =>
    plainArray([...owners.keys()].map((owner) => uuid(owner[key])));
  const each = <T>(of: (row: RatedSegment) => T): T[] => rated.map(of);
  return [
    ownerColumn("attempt"),
    ownerColumn("task"),
    ownerColumn("org"),
    ownerColumn("project"),
    plainArray(each(({ owner }) => owners.get(owner) ?? 0)),
    plainArray(each(({ segment }) => segment.member)),
    plainArray(each(({ segment }) => uuid(segment.gpu))),
    plainArray(each(({ segment }) => segment.seq)),
    plainArray(each(({ segment }) => segment.kind)),
    textArray(each(({ segment }) => segment.sku)),
    plainArray(each(({ segment }) => segment.priceVersion)),
    plainArray(each(({ segment }) => segment.startMs)),
    plainArray(each(({ segment }) => segment.endMs)),
    plainArray(each(({ segment }) => segment.billingStartMs)),
    plainArray(each(({ segment }) => segment.billingEndMs)),
    plainArray(each((row) => row.amountNanos)),
    nullableArray(each((row) => row.freeReason)),
    plainArray(each(({ segment }) => segment.simulated)),
  ];
}

/** Ids to uuids, each converted once a batch: a batch names few attempts and GPUs many times. */
function uuids(): (id: AttemptId | TaskId | OrgId | ProjectId | GpuId) => string {
  const known = new Map<string, string>();
  return (id) => {
    let uuid = known.get(id);
    if (uuid === undefined) {
      uuid = idToUuid(id);
      known.set(id, uuid);
    }
    return uuid;
  };
}

/** Where a page of usage ended. */
export interface UsageCursor {
  readonly attempt: AttemptId;
  readonly seq: number;
  readonly member: number;
  readonly gpu: GpuId;
}

interface UsageRow {
  attempt_id: string;
  member: number;
  gpu_id: string;
  seq: number;
  task_id: string;
  kind: UsageKind;
  sku: string;
  start_ms: bigint;
  end_ms: bigint;
  amount: bigint;
  free_reason: string | null;
  simulated: boolean;
}

/** A record as it is listed. */
export interface UsageRecord {
  readonly task: TaskId;
  readonly attempt: AttemptId;
  readonly member: number;
  readonly gpu: GpuId;
  readonly seq: number;
  readonly kind: UsageKind;
  readonly sku: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly amountNanos: bigint;
  readonly freeReason: string | undefined;
  readonly simulated: boolean;
}

/**
 * Attempts are walked from the newest by the index of their holds, so that usage itself needs no second index; within
 * an attempt the newest segments come first.
 */
function pageOf(name: string, filter: string) {
  return statement<UsageRow>(
    name,
    `SELECT u.attempt_id, u.member, u.gpu_id, u.seq, u.task_id, u.kind, u.sku, u.start_ms, u.end_ms, u.amount,
       u.free_reason, u.simulated
     FROM (
       SELECT attempt_id FROM holds
       WHERE ${filter} AND attempt_id <= $3
       ORDER BY attempt_id DESC
     ) h
     CROSS JOIN LATERAL (
       SELECT * FROM usage_records r
       WHERE r.attempt_id = h.attempt_id
         AND (h.attempt_id < $3 OR (-r.seq, r.member, r.gpu_id) > (-$4::integer, $5::integer, $6::uuid))
       ORDER BY r.seq DESC, r.member, r.gpu_id
       LIMIT $7
     ) u
     ORDER BY h.attempt_id DESC, u.seq DESC, u.member, u.gpu_id
     LIMIT $7`,
  );
}
const listOfProject = pageOf("list_usage_of_project", "project_id = $1 AND $2::uuid IS NULL");
const listOfTask = pageOf("list_usage_of_task", "project_id = $1 AND task_id = $2");

const last = "ffffffff-ffff-ffff-ffff-ffffffffffff";
const nil = "00000000-0000-0000-0000-000000000000";

/** Usage of a project, or of one of its tasks, the newest attempt first. */
export async function listUsage(
  tx: Tx,
  query: {
    readonly project: ProjectId;
    readonly task: TaskId | undefined;
    readonly after: UsageCursor | undefined;
    readonly limit: number;
  },
): Promise<UsageRecord[]> {
  const { task, after } = query;
  const rows = await tx.query(task === undefined ? listOfProject : listOfTask, [
    idToUuid(query.project),
    task === undefined ? null : idToUuid(task),
    after === undefined ? last : idToUuid(after.attempt),
    after?.seq ?? 0,
    after?.member ?? 0,
    after === undefined ? nil : idToUuid(after.gpu),
    query.limit,
  ]);
  return rows.map((row) => ({
    task: uuidToId("task", row.task_id),
    attempt: uuidToId("att", row.attempt_id),
    member: row.member,
    gpu: uuidToId("gpu", row.gpu_id),
    seq: row.seq,
    kind: row.kind,
    sku: row.sku,
    startMs: Number(row.start_ms),
    endMs: Number(row.end_ms),
    amountNanos: row.amount,
    freeReason: row.free_reason ?? undefined,
    simulated: row.simulated,
  }));
}
