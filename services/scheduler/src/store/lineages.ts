import { idToUuid, uuidToId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";

/** How long a task that ended without success can be taken up again by another one of its lineage, in milliseconds. */
export const lineageMemoryMs = 7 * 86_400_000;

/** Service of attempts: GPU-milliseconds, and how long they held what they had. */
export interface Attained {
  readonly gpuMs: number;
  readonly heldMs: number;
}

/** What a lineage brings to the next task of it. */
export interface Carried {
  readonly gpuMs: number;
  readonly preemptions: number;
}

const gpuMsOf = (task: string): string =>
  `(select coalesce(sum(l.cut_ms - l.from_ms), 0) from allocations l
    where l.attempt_id in (select a.id from attempts a where a.task_id = ${task}))`;

const selectAttained = statement<{ task_id: string; gpu_ms: bigint; held_ms: bigint }>(
  "lineages_attained",
  `select a.task_id, sum(g.gpu_ms)::bigint as gpu_ms, sum(a.held_ms)::bigint as held_ms
   from (select id, task_id, max(coalesce(gone_ms, ended_ms, lease_ms)) - min(lease_ms) as held_ms
         from attempts where task_id = any($1::uuid[]) group by id, task_id) a,
     lateral (select coalesce(sum(l.cut_ms - l.from_ms), 0) as gpu_ms from allocations l where l.attempt_id = a.id) g
   group by a.task_id`,
);
/** A task `p` that ended without success and was not taken up yet. */
export const unfinished = `p.lineage is not null and p.resumed_by is null and p.attempt_count > 0
  and p.state in ('FAILED', 'CANCELLED')`;
const selectUnfinished = statement<{ lineage: string; gpu_ms: bigint; preemptions: bigint }>(
  "lineages_unfinished",
  `select p.lineage, sum(p.carried_gpu_ms + ${gpuMsOf("p.id")})::bigint as gpu_ms,
     sum(p.carried_preemptions + p.preemptions)::bigint as preemptions
   from tasks p where ${unfinished} and p.lineage = any($1::uuid[]) and p.ended_ms > $2 group by p.lineage`,
);
const takeOver = statement(
  "lineages_take_over",
  `with taken as (
     update tasks p set resumed_by = c.id from unnest($1::uuid[], $2::uuid[]) as c(id, lineage)
     where ${unfinished} and p.lineage = c.lineage and p.ended_ms > $3
     returning c.id, p.carried_gpu_ms + ${gpuMsOf("p.id")} as gpu_ms, p.carried_preemptions + p.preemptions as preemptions
   ), sums as (
     select id, sum(gpu_ms)::bigint as gpu_ms, sum(preemptions)::int as preemptions from taken group by id
   )
   update tasks t set carried_gpu_ms = t.carried_gpu_ms + s.gpu_ms,
     carried_preemptions = t.carried_preemptions + s.preemptions
   from sums s where t.id = s.id`,
);

/** What the attempts of tasks have had; tasks without any are left out. */
export async function readAttained(
  db: Querier,
  tasks: readonly TaskId[],
): Promise<ReadonlyMap<TaskId, Attained>> {
  if (tasks.length === 0) return new Map();
  const rows = await db.query(selectAttained, [tasks.map(idToUuid)]);
  return new Map(
    rows.map(({ task_id, gpu_ms, held_ms }) => [
      uuidToId("task", task_id),
      { gpuMs: Number(gpu_ms), heldMs: Number(held_ms) },
    ]),
  );
}

/** What ended without success and was not taken up, by lineage; lineages without any are left out. */
export async function readUnfinished(
  db: Querier,
  lineages: readonly string[],
  nowMs: number,
): Promise<ReadonlyMap<string, Carried>> {
  if (lineages.length === 0) return new Map();
  const rows = await db.query(selectUnfinished, [lineages, nowMs - lineageMemoryMs]);
  return new Map(
    rows.map(({ lineage, gpu_ms, preemptions }) => [
      lineage,
      { gpuMs: Number(gpu_ms), preemptions: Number(preemptions) },
    ]),
  );
}

/** Tasks that are leased for the first time take over what their lineages left: each end is taken over once. */
export async function takeOverUnfinished(
  tx: Querier,
  tasks: readonly { readonly id: TaskId; readonly lineage: string }[],
  nowMs: number,
): Promise<void> {
  if (tasks.length === 0) return;
  await tx.query(takeOver, [
    tasks.map(({ id }) => idToUuid(id)),
    tasks.map(({ lineage }) => lineage),
    nowMs - lineageMemoryMs,
  ]);
}
