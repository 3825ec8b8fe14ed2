import type { Querier } from "@fastgpu/postgres/pool";
import type { PlanUsage } from "@fastgpu/scheduling/plan";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { readAttained, readUnfinished, type Attained, type Carried } from "../store/lineages.ts";
import type { PastUsage } from "../store/past-usage.ts";
import type { StoredTask } from "../store/tasks.ts";

/** What a waiting task brings along of its own attempts and of its lineage. */
export interface Past extends Attained, Carried {}

const noPast: Past = { gpuMs: 0, heldMs: 0, preemptions: 0 };

/** Finds what the waiting ones of these tasks bring along. An array's elements are fresh work. */
export async function readPast(
  db: Querier,
  tasks: readonly StoredTask[],
  nowMs: number,
): Promise<(task: StoredTask) => Past> {
  const queued = tasks.filter((task) => task.state === "QUEUED" && task.array === undefined);
  const again = queued.filter((task) => task.attemptCount > 0);
  const fresh = queued.flatMap((task) => (task.attemptCount > 0 ? [] : (task.lineage ?? [])));
  const attained = await readAttained(
    db,
    again.map((task) => task.id),
  );
  const unfinished = await readUnfinished(db, [...new Set(fresh)], nowMs);
  return (task) => {
    if (task.array !== undefined) return { ...noPast, preemptions: task.preemptions };
    const { gpuMs, heldMs } = attained.get(task.id) ?? noPast;
    // Once it has been leased, what its lineage had left is its own.
    const left = task.attemptCount > 0 ? undefined : unfinished.get(task.lineage ?? "");
    const { carried } = task;
    return {
      heldMs,
      gpuMs: gpuMs + carried.gpuMs + (left?.gpuMs ?? 0),
      preemptions: task.preemptions + carried.preemptions + (left?.preemptions ?? 0),
    };
  };
}

/** What users have had, as the planner sees it. */
interface UsageBook {
  /** Begins with everything that was ever charged, by the shipped half-life until the next charge. */
  restart(rows: readonly PastUsage[], nowMs: number): void;
  /** Takes in what was charged; everybody's service is as of `nowMs` then. */
  note(charged: readonly PastUsage[], at: { nowMs: number; halfLifeMs: number }): void;
  plan(): readonly PlanUsage[];
}

/**
 * Service decays from charge to charge, not from plan to plan: seconds make no difference to a half-life of hours, and
 * what does not change need not be recorded.
 */
export function createUsageBook(): UsageBook {
  const rows = new Map<string, PastUsage>();
  let plan: readonly PlanUsage[] = [];
  const note: UsageBook["note"] = (charged, { nowMs, halfLifeMs }) => {
    for (const row of charged) rows.set(`${row.project} ${row.user}`, row);
    plan = Array.from(rows.values(), ({ org, project, user, gpuMs, atMs }) => {
      const decayed = gpuMs * 0.5 ** (Math.max(0, nowMs - atMs) / halfLifeMs);
      return { org, project, user, gpuMs: Math.round(decayed) };
    });
  };
  return {
    restart(all, nowMs) {
      rows.clear();
      note(all, { nowMs, halfLifeMs: defaultSchedulingPolicy.usage.halfLifeMs });
    },
    note,
    plan: () => plan,
  };
}
