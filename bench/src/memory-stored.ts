/** The part of the memory experiment with a real database: tasks enqueued there, the leader's picture, a restart. */
import { uuidToId } from "@fastgpu/domain/ids";
import { openDatabase } from "@fastgpu/postgres/database";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { createMirror, oneMoment } from "@fastgpu/scheduler/cycle/mirror";
import { createLogger } from "@fastgpu/telemetry/log";
import { startServiceDatabase } from "./service-database.ts";

/** Queued tasks to store. */
export interface StoredSetting {
  readonly tasks: number;
  /** Distinct needs among them. */
  readonly shapes: number;
  /** Projects that they belong to. */
  readonly queues: number;
  readonly seed: number;
  readonly liveBytes: () => Promise<number>;
  readonly progress: (text: string) => void;
}

/** What was seen. */
export interface StoredMeasure {
  /** Decimal megabytes that the leader's picture takes of the process, per million tasks. */
  readonly mbPerMillion: number;
  /** Tasks a second into the picture, read as they come. */
  readonly addedPerSecond: number;
  /** Tasks a second into the picture of a new leader. */
  readonly rebuiltPerSecond: number;
  readonly rebuildSeconds: number;
  readonly hash: string;
}

const batch = 20_000;

// Ids that grow with time, as UUIDv7 do; needs and owners by a hash of the number, so that a seed gives the same tasks.
const insertBatch = statement<{ id: string }>(
  "bench_queue_tasks",
  `insert into tasks (id, org_id, project_id, display_name, labels, spec, runtime, priority, gpu_count, gpu_models,
     gpu_min_memory_mib, simulated_ok, cpu_millis, memory_mib, disk_mib, max_retries, retry_on, max_runtime_ms,
     stop_grace_ms, state, queue_reason, traceparent, created_ms, submitted_ms, lineage)
   select
     (lpad(to_hex(1790000000000 + n), 12, '0') || '7' || lpad(to_hex(abs(hashint8extended(n, $3)) % 4096), 3, '0')
       || '8' || lpad(to_hex(abs(hashint8extended(n, $3 + 1)) % (1::bigint << 60)), 15, '0'))::uuid,
     lpad(to_hex(queue % 20 + 1), 32, '0')::uuid, lpad(to_hex(queue + 1), 32, '0')::uuid,
     'bench', '{}', decode(repeat('00', 120), 'hex'), 'container', 0, 1 + shape % 8,
     case when shape % 5 = 0 then '{NVIDIA A100}'::text[] else '{}'::text[] end, 0, true, 500 * (1 + shape % 97),
     1024 * (1 + shape / 97), 0, 3, '{}', 86400000, 10000, 'QUEUED', 'PENDING', '', 1790000000000 + n,
     1790000000000 + n, lpad(to_hex(abs(hashint8extended(n / 10, $3 + 4))), 32, '0')::uuid
   from generate_series($1::bigint, $2::bigint - 1) as n
     cross join lateral (select abs(hashint8extended(n, $3 + 2)) % $4::int as shape) s
     cross join lateral (select abs(hashint8extended(n, $3 + 3)) % $5::int as queue) q
   returning id`,
);

/** Stores queued tasks; `heed` hears of each batch. */
export async function enqueue(
  db: Querier,
  setting: Omit<StoredSetting, "liveBytes">,
  heed: (ids: string[]) => Promise<void>,
): Promise<void> {
  const { tasks, shapes, queues, seed, progress } = setting;
  for (let from = 0; from < tasks; from += batch) {
    const to = Math.min(tasks, from + batch);
    const rows = await db.query(insertBatch, [from, to, seed, shapes, queues]);
    await heed(rows.map(({ id }) => id));
    if (from > 0 && from % 200_000 === 0) progress(`${from} of ${tasks} stored`);
  }
}

/** Enqueues, follows as a leader does, restarts, and compares the pictures. Throws where they differ. */
export async function measureStored(setting: StoredSetting): Promise<StoredMeasure> {
  const log = createLogger({ service: "bench", level: "error" });
  await using database = await startServiceDatabase("scheduler");
  await using db = openDatabase({ service: "scheduler", urls: database.urls, log });
  const clock = { nowMs: () => Date.now() };
  const live = createMirror(clock);
  await transaction(db.core, (tx) => live.rebuild(tx), oneMoment);
  const before = await setting.liveBytes();
  let following = 0;
  await enqueue(db.core, setting, async (ids) => {
    const tasks = ids.map((id) => uuidToId("task", id));
    const started = performance.now();
    await live.refresh(db.core, { tasks, nodes: [] });
    following += performance.now() - started;
  });
  const bytes = (await setting.liveBytes()) - before;
  setting.progress("restarting");
  const rebuilt = createMirror(clock);
  const started = performance.now();
  await transaction(db.core, (tx) => rebuilt.rebuild(tx), oneMoment);
  const rebuildSeconds = (performance.now() - started) / 1000;
  const hash = live.waiting.hash();
  if (rebuilt.waiting.hash() !== hash) throw new Error("the rebuilt picture has another hash");
  if (rebuilt.waiting.size !== setting.tasks) throw new Error("tasks are missing in the picture");
  return {
    mbPerMillion: bytes / setting.tasks,
    addedPerSecond: (setting.tasks / following) * 1000,
    rebuiltPerSecond: setting.tasks / rebuildSeconds,
    rebuildSeconds,
    hash,
  };
}
