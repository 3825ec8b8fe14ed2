import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type GpuId,
  type OrgId,
  type ProjectId,
  type TaskId,
} from "@fastgpu/domain/ids";
import { memberName } from "@fastgpu/domain/member-name";
import { statement, type Querier } from "@fastgpu/postgres/pool";

/** One GPU leased to one attempt: the row that usage is cut from. */
export interface StoredAllocation {
  readonly attempt: AttemptId;
  readonly member: number;
  readonly gpu: GpuId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly task: TaskId;
  readonly sku: string;
  readonly priceVersion: number;
  readonly simulated: boolean;
  readonly fromMs: number;
  /** End of the last segment cut. */
  readonly cutMs: number;
  /** Number of the last segment cut. */
  readonly seq: number;
}

interface AllocationRow {
  attempt_id: string;
  member: number;
  gpu_id: string;
  org_id: string;
  project_id: string;
  task_id: string;
  sku: string;
  price_version: number;
  simulated: boolean;
  from_ms: bigint;
  cut_ms: bigint;
  seq: number;
}

const toAllocation = (row: AllocationRow): StoredAllocation => ({
  attempt: uuidToId("att", row.attempt_id),
  member: row.member,
  gpu: uuidToId("gpu", row.gpu_id),
  org: uuidToId("org", row.org_id),
  project: uuidToId("proj", row.project_id),
  task: uuidToId("task", row.task_id),
  sku: row.sku,
  priceVersion: row.price_version,
  simulated: row.simulated,
  fromMs: Number(row.from_ms),
  cutMs: Number(row.cut_ms),
  seq: row.seq,
});

const lockOpen = statement<AllocationRow>(
  "allocations_lock_open",
  `select a.* from allocations a
     join unnest($1::uuid[], $2::int[]) as c(attempt_id, member) on a.attempt_id = c.attempt_id and a.member = c.member
   where a.released_ms is null order by a.attempt_id, a.member, a.gpu_id for update of a`,
);
const selectDue = statement<{ attempt_id: string }>(
  "allocations_due",
  "select distinct attempt_id from allocations where released_ms is null and cut_ms <= $1 limit 1000",
);

/** Unreleased allocations of members of attempts, locked, by the member's name. */
export async function lockOpenAllocations(
  tx: Querier,
  members: readonly { readonly id: AttemptId; readonly member: number }[],
): Promise<ReadonlyMap<string, readonly StoredAllocation[]>> {
  if (members.length === 0) return new Map();
  const rows = await tx.query(lockOpen, [
    members.map(({ id }) => idToUuid(id)),
    members.map(({ member }) => member),
  ]);
  return Map.groupBy(rows.map(toAllocation), memberName);
}

const selectGpus = statement<{ attempt_id: string; member: number; gpu_id: string }>(
  "allocations_gpus",
  "select attempt_id, member, gpu_id from allocations where attempt_id = any($1::uuid[]) order by gpu_id",
);

/** GPUs that members of attempts hold or have held, by the member's name. */
export async function readGpusOfMembers(
  db: Querier,
  attempts: readonly AttemptId[],
): Promise<ReadonlyMap<string, readonly GpuId[]>> {
  const gpus = new Map<string, GpuId[]>();
  for (const { attempt_id, member, gpu_id } of await db.query(selectGpus, [
    attempts.map(idToUuid),
  ])) {
    const name = memberName({ attempt: uuidToId("att", attempt_id), member });
    gpus.set(name, [...(gpus.get(name) ?? []), uuidToId("gpu", gpu_id)]);
  }
  return gpus;
}

/** Attempts with a GPU whose last cut is at or before a time, at most 1,000. */
export async function readAttemptsDueForCut(db: Querier, cutAtOrBeforeMs: number) {
  const rows = await db.query(selectDue, [cutAtOrBeforeMs]);
  return rows.map((row) => uuidToId("att", row.attempt_id));
}

const advance = statement(
  "allocations_cut",
  `update allocations a set cut_ms = c.cut_ms, seq = c.seq, released_ms = c.released_ms
   from unnest($1::uuid[], $2::int[], $3::uuid[], $4::bigint[], $5::int[], $6::bigint[])
     as c(attempt_id, member, gpu_id, cut_ms, seq, released_ms)
   where a.attempt_id = c.attempt_id and a.member = c.member and a.gpu_id = c.gpu_id and a.released_ms is null`,
);

/** Moves allocations to their newest cut; `releasedMs` equals the cut where the GPU is given back. */
export async function storeCuts(
  tx: Querier,
  cuts: readonly {
    allocation: StoredAllocation;
    cutMs: number;
    seq: number;
    released: boolean;
  }[],
): Promise<void> {
  if (cuts.length === 0) return;
  await tx.query(advance, [
    cuts.map((cut) => idToUuid(cut.allocation.attempt)),
    cuts.map((cut) => cut.allocation.member),
    cuts.map((cut) => idToUuid(cut.allocation.gpu)),
    cuts.map((cut) => cut.cutMs),
    cuts.map((cut) => cut.seq),
    cuts.map((cut) => (cut.released ? cut.cutMs : null)),
  ]);
}
