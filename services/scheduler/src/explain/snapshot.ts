import { countIndices } from "@fastgpu/domain/index-set";
import type { Clock } from "@fastgpu/domain/clock";
import { uuidToId, type NodeId, type TaskId } from "@fastgpu/domain/ids";
import { statement, type Pool, type Querier } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { PlanState } from "@fastgpu/scheduling/plan";
import { createMirror, type MirroredNode } from "../cycle/mirror.ts";
import type { StoredAttempt } from "../store/attempts.ts";
import type { StoredGpu } from "../store/nodes.ts";

/** What an explanation looks at: the fleet and the line at one moment, with how long leases may last. */
export interface Snapshot {
  readonly state: PlanState;
  /** Latest end of each lease of a node, in the order of its `running`. */
  readonly endsByMs: ReadonlyMap<NodeId, readonly number[]>;
  /** Longest time that one attempt (of an array: one element) of a live task may hold its resources, in ms. */
  readonly maxRunMs: ReadonlyMap<TaskId, number>;
  readonly gpus: ReadonlyMap<string, StoredGpu>;
}

/** Snapshots on any replica, with or without the lead. */
export interface Snapshots {
  read(): Promise<Snapshot>;
}

/** Reading takes at most this part of the time: a snapshot is used again for nine times as long as it took to read. */
const reuseFactor = 9;
const maxReuseMs = 5_000;

/** Reads snapshots from the database; calls at the same moment share one. */
export function createSnapshots(core: Pool, clock: Clock): Snapshots {
  let current: Promise<Snapshot> | undefined;
  let staleMs = Infinity;
  const start = (): Promise<Snapshot> => {
    const startedMs = clock.nowMs();
    staleMs = Infinity;
    const reading = transaction(core, readSnapshot, {
      isolation: "REPEATABLE READ",
      readOnly: true,
    });
    reading.then(
      () => {
        const endedMs = clock.nowMs();
        staleMs = endedMs + Math.min(maxReuseMs, reuseFactor * (endedMs - startedMs));
      },
      // A failed read is not remembered.
      () => (current = undefined),
    );
    return reading;
  };
  return {
    read() {
      if (current === undefined || clock.nowMs() > staleMs) current = start();
      return current;
    },
  };
}

const selectMaxRuns = statement<{ id: string; max_run_ms: bigint }>(
  "tasks_max_runs",
  `select id, max_runtime_ms + stop_grace_ms as max_run_ms from tasks
   where state not in ('DRAFT', 'SUCCEEDED', 'FAILED', 'CANCELLED')`,
);

async function readSnapshot(db: Querier): Promise<Snapshot> {
  const mirror = createMirror();
  await mirror.rebuild(db);
  const rows = await db.query(selectMaxRuns);
  const maxRunMs = new Map(rows.map((row) => [uuidToId("task", row.id), Number(row.max_run_ms)]));
  const endsByMs = new Map<NodeId, readonly number[]>();
  const gpus = new Map<string, StoredGpu>();
  for (const [id, mirrored] of mirror.nodes) {
    endsByMs.set(id, endsOf(mirrored, maxRunMs));
    for (const gpu of mirrored.gpus) gpus.set(gpu.id, gpu);
  }
  return { state: mirror.planState(), endsByMs, maxRunMs, gpus };
}

function endsOf(
  { attempts, plan }: MirroredNode,
  maxRunMs: ReadonlyMap<TaskId, number>,
): readonly number[] {
  const holding = attempts.filter((attempt) => attempt.goneMs === undefined);
  return plan.running.map((_, at) => {
    const attempt = holding[at];
    return attempt === undefined ? 0 : latestEndMs(attempt, maxRunMs.get(attempt.task) ?? 0);
  });
}

/** Until when an attempt may run at most; one that still starts is taken to run from now on its lease. */
function latestEndMs(attempt: StoredAttempt, maxRunMs: number): number {
  if (attempt.stopMs !== undefined) return attempt.stopMs + attempt.stopGraceMs;
  const elements = attempt.elements === undefined ? 1 : countIndices(attempt.elements);
  const turns = Math.ceil(elements / Math.max(1, attempt.slots));
  return (attempt.runningMs ?? attempt.leaseMs) + turns * maxRunMs;
}
