import { uuidToId, type OrgId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { readByCursor } from "@fastgpu/postgres/cursor";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { couldWait, demandOf, fresh, type DemandColumns } from "./tasks.ts";

/** What a task needs and is worth: tasks of one class differ in whose they are and in their age only. */
export type TaskClass = Pick<
  PlanTask,
  "demand" | "replicas" | "topology" | "preemptible" | "priority" | "stopGraceMs" | "maxRuntimeMs"
>;

/** A leaf of the queues. */
export interface Leaf {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
}

/** A waiting task that never ran. Tasks of one class have the same object as their class, and so for leaves. */
export interface FreshTask {
  /** 32 lower-case hexadecimal digits. */
  readonly uuid: string;
  readonly submittedMs: number;
  readonly leaf: Leaf;
  readonly class: TaskClass;
}

// What tells classes and leaves apart, as one text each: a million rows are read, and few of them are different.
const classKey = `concat_ws('|', runtime, gpu_count, gpu_models, gpu_min_memory_mib, simulated_ok, cpu_millis,
  memory_mib, disk_mib, replicas, topology, preemptible, priority, stop_grace_ms, max_runtime_ms)`;
const leafKey = "concat_ws('|', project_id, principal)";

interface LiveRow {
  id: string;
  submitted: number;
  leaf: string;
  /** Null where the task is not fresh. */
  class: string | null;
}

// In order of the column: `order by id` alone means the text above, and sorts all rows by it.
const selectLive = statement<LiveRow>(
  "tasks_that_could_wait",
  `select encode(uuid_send(id), 'hex') as id, coalesce(submitted_ms, created_ms)::float8 as submitted,
     ${leafKey} as leaf, case when ${fresh} then ${classKey} end as class
   from tasks where ${couldWait} order by tasks.id`,
);

interface KindRow extends DemandColumns {
  leaf: string;
  class: string;
  org_id: string;
  project_id: string;
  principal: string;
  preemptible: boolean;
  replicas: number;
  topology: PlanTask["topology"];
  priority: number;
  stop_grace_ms: bigint;
  max_runtime_ms: bigint;
}

const selectKinds = statement<KindRow>(
  "tasks_fresh_kinds",
  `select *, ${leafKey} as leaf, ${classKey} as class from tasks where id = any($1::uuid[])`,
);

/** A part of what was read: see {@link readCouldWait}. */
export interface LivePage {
  readonly fresh: readonly FreshTask[];
  /** Tasks with a past, a time to wait for or elements: to be read whole. */
  readonly others: readonly TaskId[];
}

/** Reads all tasks that could be placed, and all arrays that have not ended, in order of their ids, in pages. */
export async function* readCouldWait(tx: Tx, pageRows: number): AsyncIterable<LivePage> {
  const leaves = new Map<string, Leaf>();
  const classes = new Map<string, TaskClass>();
  for await (const page of readByCursor(tx, selectLive, pageRows)) {
    await learnKinds(tx, page, { leaves, classes });
    const found: FreshTask[] = [];
    const others: TaskId[] = [];
    for (const { id: uuid, submitted: submittedMs, leaf, class: kind } of page) {
      if (kind === null) others.push(uuidToId("task", uuid));
      else found.push({ uuid, submittedMs, leaf: leaves.get(leaf)!, class: classes.get(kind)! });
    }
    yield { fresh: found, others };
  }
}

/** Reads what the classes and leaves of a page are, one task of each that is not known yet. */
async function learnKinds(
  db: Querier,
  page: readonly LiveRow[],
  known: { leaves: Map<string, Leaf>; classes: Map<string, TaskClass> },
): Promise<void> {
  const unknown = new Map<string, string>();
  for (const row of page) {
    if (row.class === null) continue;
    if (!known.leaves.has(row.leaf)) unknown.set(`leaf ${row.leaf}`, row.id);
    if (!known.classes.has(row.class)) unknown.set(`class ${row.class}`, row.id);
  }
  if (unknown.size === 0) return;
  for (const row of await db.query(selectKinds, [[...new Set(unknown.values())]])) {
    const org = uuidToId("org", row.org_id);
    const project = uuidToId("proj", row.project_id);
    if (!known.leaves.has(row.leaf))
      known.leaves.set(row.leaf, { org, project, user: row.principal });
    if (!known.classes.has(row.class)) known.classes.set(row.class, toClass(row));
  }
}

const toClass = (row: KindRow): TaskClass => ({
  demand: demandOf(row),
  replicas: row.replicas,
  topology: row.topology,
  preemptible: row.preemptible,
  priority: row.priority,
  stopGraceMs: Number(row.stop_grace_ms),
  maxRuntimeMs: Number(row.max_runtime_ms),
});
