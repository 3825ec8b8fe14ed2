import { uuidToId, type OrgId, type ProjectId } from "@fastgpu/domain/ids";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import type { PlanTask } from "@fastgpu/scheduling/plan";
import { demandOf, fresh, type DemandColumns } from "./tasks.ts";

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

interface FreshRow {
  id: string;
  submitted: number;
  leaf: string;
  class: string;
}

const selectPage = statement<FreshRow>(
  "tasks_fresh_page",
  `select encode(uuid_send(id), 'hex') as id, coalesce(submitted_ms, created_ms)::float8 as submitted,
     ${leafKey} as leaf, ${classKey} as class
   from tasks where ${fresh} and id > $1 order by id limit $2`,
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

/** Reads all tasks that never ran and wait for nothing but a place, in order of their ids, in pages. */
export async function* readFreshTasks(db: Querier, pageSize: number): AsyncIterable<FreshTask[]> {
  const leaves = new Map<string, Leaf>();
  const classes = new Map<string, TaskClass>();
  const ask = (after: string): Promise<FreshRow[]> => {
    const answer = db.query(selectPage, [after, pageSize]);
    // Asked for ahead, it may fail before it is looked at; whoever awaits it is told.
    answer.catch(() => undefined);
    return answer;
  };
  for (let next = ask("0".repeat(32)); ;) {
    const page = await next;
    const last = page.at(-1);
    if (last === undefined) return;
    next = ask(last.id);
    await learnKinds(db, page, { leaves, classes });
    yield page.flatMap((row) => {
      const leaf = leaves.get(row.leaf);
      const kind = classes.get(row.class);
      // A task of a kind that is gone again was taken away since the page was read.
      if (leaf === undefined || kind === undefined) return [];
      return [{ uuid: row.id, submittedMs: row.submitted, leaf, class: kind }];
    });
  }
}

/** Reads what the classes and leaves of a page are, one task of each that is not known yet. */
async function learnKinds(
  db: Querier,
  page: readonly FreshRow[],
  known: { leaves: Map<string, Leaf>; classes: Map<string, TaskClass> },
): Promise<void> {
  const unknown = new Map<string, string>();
  for (const row of page) {
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
