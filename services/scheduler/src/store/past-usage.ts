import { uuidToId, type OrgId, type ProjectId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";

/** Service that a user of a project has had, older service counting less. */
export interface PastUsage {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
  /** GPU-milliseconds as of `atMs`. */
  readonly gpuMs: number;
  readonly atMs: number;
}

interface UsageRow {
  org_id: string;
  project_id: string;
  principal: string;
  gpu_ms: number;
  at_ms: bigint;
}

const toUsage = (row: UsageRow): PastUsage => ({
  org: uuidToId("org", row.org_id),
  project: uuidToId("proj", row.project_id),
  user: row.principal,
  gpuMs: row.gpu_ms,
  atMs: Number(row.at_ms),
});

const selectAll = statement<UsageRow>(
  "past_usage_all",
  "select * from past_usage order by org_id, project_id, principal",
);
const charge = statement<UsageRow>(
  "past_usage_charge",
  `with due as (
     select attempt_id, member, gpu_id, cut_ms - coalesce(charged_ms, from_ms) as gpu_ms
     from allocations where cut_ms > coalesce(charged_ms, from_ms)
     order by attempt_id, member, gpu_id limit $3 for update skip locked
   ), charged as (
     update allocations l set charged_ms = l.cut_ms from due
     where l.attempt_id = due.attempt_id and l.member = due.member and l.gpu_id = due.gpu_id
     returning l.org_id, l.project_id, l.principal, due.gpu_ms
   )
   insert into past_usage as u (org_id, project_id, principal, gpu_ms, at_ms)
   select org_id, project_id, principal, sum(gpu_ms), $1 from charged
   group by org_id, project_id, principal order by org_id, project_id, principal
   on conflict (org_id, project_id, principal) do update set
     gpu_ms = u.gpu_ms * power(0.5, greatest(0, excluded.at_ms - u.at_ms) / $2::double precision) + excluded.gpu_ms,
     at_ms = greatest(u.at_ms, excluded.at_ms)
   returning u.*`,
);

/** Everything that was charged. */
export async function readPastUsage(db: Querier): Promise<PastUsage[]> {
  return (await db.query(selectAll)).map(toUsage);
}

/** Allocations charged in one statement. */
const chargedAtOnce = 10_000;

/**
 * Charges cut GPU time that was not charged yet to its users, each millisecond once; what they had decays by its half
 * in `halfLifeMs`. Answers the rows that changed.
 */
export async function chargeUsage(
  tx: Querier,
  at: { nowMs: number; halfLifeMs: number },
): Promise<PastUsage[]> {
  return (await tx.query(charge, [at.nowMs, at.halfLifeMs, chargedAtOnce])).map(toUsage);
}
