import { formatMultirange, parseMultirange, type IndexSet } from "@fastgpu/domain/index-set";
import {
  idToUuid,
  uuidToId,
  type AttemptId,
  type NodeId,
  type OrgId,
  type ProjectId,
  type TaskId,
} from "@fastgpu/domain/ids";
import type { Member } from "@fastgpu/domain/member-name";
import type { AttemptState, ExitClass } from "@fastgpu/domain/states";
import { statement, type Querier } from "@fastgpu/postgres/pool";
import { nil, optional } from "./columns.ts";

/** Array indices by the class they ended with. */
export type ElementResults = Readonly<Partial<Record<ExitClass, IndexSet>>>;

/** One lease of a task, or of a range of an array, as the database has it; of a gang, one member's part of it. */
export interface StoredAttempt {
  readonly id: AttemptId;
  /** Rank in its gang, from 0; 0 where it is none. */
  readonly member: number;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly task: TaskId;
  readonly node: NodeId;
  readonly epoch: number;
  /** 1 for the first attempt of its task. */
  readonly number: number;
  readonly state: AttemptState;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly slots: number;
  readonly elements: IndexSet | undefined;
  readonly leaseMs: number;
  /** Billable milliseconds that its hold covers; undefined where it costs nothing. */
  readonly fundedMs: number | undefined;
  /** Number of the last extension of its hold. */
  readonly holdN: number;
  readonly runningMs: number | undefined;
  /** Why it was told to stop. */
  readonly stopClass: ExitClass | undefined;
  /** When it was told to stop, by the server or by its worker. */
  readonly stopMs: number | undefined;
  /** Time between its stop signal and the kill. */
  readonly stopGraceMs: number;
  readonly stopDelivered: boolean;
  /** When its processes were gone. */
  readonly goneMs: number | undefined;
  readonly endedMs: number | undefined;
  readonly exitClass: ExitClass | undefined;
  readonly exitCode: number | undefined;
  readonly message: string;
  readonly manifestDigest: string | undefined;
  /** Manifest in storage of the checkpoint that it left. */
  readonly checkpointDigest: string | undefined;
  readonly logArtifact: string | undefined;
  readonly elementResults: ElementResults | undefined;
  readonly traceparent: string;
  /** True for the member whose end is the attempt's. */
  readonly cause: boolean;
  /** What the plan needs of its task, as it was at the lease. */
  readonly atLease: AtLease;
  /** When it last told of a saved checkpoint. */
  readonly savedMs: number | undefined;
}

/** What the plan needs of a running attempt's task: none of it changes while the attempt runs. */
export interface AtLease {
  /** The principal who submitted it. */
  readonly user: string;
  readonly preemptible: boolean;
  readonly priority: number;
  readonly submittedMs: number;
  /** Longest run of the attempt, or of each of its elements; Infinity for what was leased before this was kept. */
  readonly maxRuntimeMs: number;
  /** GPU-milliseconds of its lineage before it. */
  readonly attainedGpuMs: number;
  /** Preemptions of its lineage before it. */
  readonly preemptions: number;
}

interface AttemptRow {
  id: string;
  member: number;
  cause: boolean;
  org_id: string;
  project_id: string;
  task_id: string;
  node_id: string;
  epoch: bigint;
  number: number;
  state: AttemptState;
  cpu_millis: bigint;
  memory_mib: bigint;
  disk_mib: bigint;
  slots: number;
  elements: string | null;
  lease_ms: bigint;
  funded_ms: bigint | null;
  hold_n: number;
  running_ms: bigint | null;
  stop_class: ExitClass | null;
  stop_ms: bigint | null;
  stop_grace_ms: bigint;
  stop_delivered: boolean;
  gone_ms: bigint | null;
  ended_ms: bigint | null;
  exit_class: ExitClass | null;
  exit_code: number | null;
  message: string;
  manifest_digest: string | null;
  checkpoint_digest: string | null;
  log_artifact: string | null;
  element_results: Partial<Record<ExitClass, string>> | null;
  traceparent: string;
  principal: string;
  preemptible: boolean;
  priority: number;
  submitted_ms: bigint | null;
  max_runtime_ms: bigint | null;
  attained_gpu_ms: bigint;
  preemptions: number;
  saved_ms: bigint | null;
}

function toAttempt(row: AttemptRow): StoredAttempt {
  return {
    id: uuidToId("att", row.id),
    member: row.member,
    cause: row.cause,
    org: uuidToId("org", row.org_id),
    project: uuidToId("proj", row.project_id),
    task: uuidToId("task", row.task_id),
    node: uuidToId("node", row.node_id),
    epoch: Number(row.epoch),
    number: row.number,
    state: row.state,
    cpuMillis: Number(row.cpu_millis),
    memoryMib: Number(row.memory_mib),
    diskMib: Number(row.disk_mib),
    slots: row.slots,
    elements: row.elements === null ? undefined : parseMultirange(row.elements),
    leaseMs: Number(row.lease_ms),
    fundedMs: optional(row.funded_ms),
    holdN: row.hold_n,
    runningMs: optional(row.running_ms),
    stopClass: row.stop_class ?? undefined,
    stopMs: optional(row.stop_ms),
    stopGraceMs: Number(row.stop_grace_ms),
    stopDelivered: row.stop_delivered,
    goneMs: optional(row.gone_ms),
    endedMs: optional(row.ended_ms),
    exitClass: row.exit_class ?? undefined,
    exitCode: row.exit_code ?? undefined,
    message: row.message,
    manifestDigest: row.manifest_digest ?? undefined,
    checkpointDigest: row.checkpoint_digest ?? undefined,
    logArtifact: row.log_artifact ?? undefined,
    elementResults: row.element_results === null ? undefined : toResults(row.element_results),
    traceparent: row.traceparent,
    atLease: {
      user: row.principal,
      preemptible: row.preemptible,
      priority: row.priority,
      submittedMs: Number(row.submitted_ms ?? row.lease_ms),
      maxRuntimeMs: optional(row.max_runtime_ms) ?? Number.POSITIVE_INFINITY,
      attainedGpuMs: Number(row.attained_gpu_ms),
      preemptions: row.preemptions,
    },
    savedMs: optional(row.saved_ms),
  };
}

function toResults(json: Partial<Record<ExitClass, string>>): ElementResults {
  const results: Partial<Record<ExitClass, IndexSet>> = {};
  for (const [exitClass, text] of Object.entries(json) as [ExitClass, string][]) {
    results[exitClass] = parseMultirange(text);
  }
  return results;
}

const selectByIds = statement<AttemptRow>(
  "attempts_by_ids",
  "select * from attempts where id = any($1::uuid[]) order by id, member",
);
const lockByIds = statement<AttemptRow>(
  "attempts_lock_by_ids",
  "select * from attempts where id = any($1::uuid[]) order by id, member for update",
);
const selectLive = statement<AttemptRow>(
  "attempts_live",
  "select * from attempts where state <> 'ENDED' order by id, member",
);
const selectLiveOfNodes = statement<AttemptRow>(
  "attempts_live_of_nodes",
  "select * from attempts where state <> 'ENDED' and node_id = any($1::uuid[]) order by id, member",
);
const lockLiveOfTask = statement<AttemptRow>(
  "attempts_lock_live_of_task",
  "select * from attempts where task_id = $1 and state <> 'ENDED' order by id, member for update",
);
const selectUnfolded = statement<AttemptRow>(
  "attempts_unfolded",
  "select * from attempts where not folded order by id limit 1000",
);
const selectByTask = statement<AttemptRow>(
  "attempts_by_task",
  `select * from attempts where task_id = $1 and member = 0 and (epoch, id) > ($2, $3)
   order by epoch, id limit $4`,
);

/** The attempts of these ids, all members by rank; unknown ids are left out. */
export async function readAttempts(db: Querier, ids: readonly AttemptId[]) {
  return (await db.query(selectByIds, [ids.map(idToUuid)])).map(toAttempt);
}

const selectTaskIds = statement<{ task_id: string }>(
  "attempts_task_ids",
  "select distinct task_id from attempts where id = any($1::uuid[]) order by task_id",
);

/** The tasks of these attempts, in the order in which tasks are locked. */
export async function readTasksOfAttempts(
  db: Querier,
  ids: readonly AttemptId[],
): Promise<TaskId[]> {
  const rows = await db.query(selectTaskIds, [ids.map(idToUuid)]);
  return rows.map((row) => uuidToId("task", row.task_id));
}

/** As {@link readAttempts}, each row locked until the transaction ends. */
export async function lockAttempts(tx: Querier, ids: readonly AttemptId[]) {
  return (await tx.query(lockByIds, [ids.map(idToUuid)])).map(toAttempt);
}

/** Every attempt, of a gang every member, that has not ended. */
export async function readLiveAttempts(db: Querier): Promise<StoredAttempt[]> {
  return (await db.query(selectLive)).map(toAttempt);
}

/** Attempts and members on these nodes that have not ended. */
export async function readLiveAttemptsOf(db: Querier, nodes: readonly NodeId[]) {
  return (await db.query(selectLiveOfNodes, [nodes.map(idToUuid)])).map(toAttempt);
}

/** Attempts of a task, with all their members, that have not ended, locked until the transaction ends. */
export async function lockLiveAttemptsOfTask(tx: Querier, task: TaskId): Promise<StoredAttempt[]> {
  return (await tx.query(lockLiveOfTask, [idToUuid(task)])).map(toAttempt);
}

/** Ended attempts of arrays that the array's row does not show yet, at most 1,000. */
export async function readUnfolded(db: Querier): Promise<StoredAttempt[]> {
  return (await db.query(selectUnfolded)).map(toAttempt);
}

/** Attempts of a task in order, after a position: of a gang, only member 0. */
export async function listAttemptsOf(
  db: Querier,
  task: TaskId,
  page: { afterEpoch: number; afterId: AttemptId | undefined; limit: number },
): Promise<StoredAttempt[]> {
  const afterId = page.afterId === undefined ? nil : idToUuid(page.afterId);
  const rows = await db.query(selectByTask, [idToUuid(task), page.afterEpoch, afterId, page.limit]);
  return rows.map(toAttempt);
}

/** What changes when an attempt moves: fields that are left out keep their value. */
export interface AttemptChange {
  readonly id: AttemptId;
  readonly member: number;
  /** The state that the row had, or the last one passed in the same transaction. */
  readonly prevState: AttemptState;
  readonly state: AttemptState;
  readonly runningMs?: number;
  readonly stopClass?: ExitClass;
  readonly stopMs?: number;
  readonly stopDelivered?: boolean;
  readonly goneMs?: number;
  readonly endedMs?: number;
  readonly exitClass?: ExitClass;
  readonly exitCode?: number;
  readonly message?: string;
  readonly isolation?: string;
  readonly manifestDigest?: string;
  readonly checkpointDigest?: string;
  readonly logArtifact?: string;
  readonly elementResults?: ElementResults;
  readonly folded?: boolean;
  readonly cause?: boolean;
}

const update = statement(
  "attempts_update",
  `update attempts a set
     prev_state = case when a.state = c.state and c.prev_state = c.state then a.prev_state else c.prev_state end,
     state = c.state,
     running_ms = coalesce(a.running_ms, c.running_ms),
     stop_class = coalesce(a.stop_class, c.stop_class),
     stop_ms = coalesce(a.stop_ms, c.stop_ms),
     stop_delivered = coalesce(c.stop_delivered, a.stop_delivered),
     gone_ms = coalesce(a.gone_ms, c.gone_ms),
     ended_ms = coalesce(a.ended_ms, c.ended_ms),
     exit_class = coalesce(a.exit_class, c.exit_class),
     exit_code = coalesce(a.exit_code, c.exit_code),
     message = coalesce(c.message, a.message),
     isolation = coalesce(c.isolation, a.isolation),
     manifest_digest = coalesce(c.manifest_digest, a.manifest_digest),
     checkpoint_digest = coalesce(c.checkpoint_digest, a.checkpoint_digest),
     log_artifact = coalesce(c.log_artifact, a.log_artifact),
     element_results = coalesce(c.element_results, a.element_results),
     folded = coalesce(c.folded, a.folded),
     cause = coalesce(c.cause, a.cause)
   from json_to_recordset($1::json) as c(
     id uuid, member int, cause boolean, prev_state text, state text, running_ms bigint, stop_class text, stop_ms bigint,
     stop_delivered boolean, gone_ms bigint, ended_ms bigint, exit_class text, exit_code int, message text,
     isolation text, manifest_digest text, checkpoint_digest text, log_artifact text, element_results jsonb,
     folded boolean)
   where a.id = c.id and a.member = c.member`,
);

/** Writes changes of rows that the transaction has locked. */
export async function updateAttempts(
  tx: Querier,
  changes: readonly AttemptChange[],
): Promise<void> {
  if (changes.length === 0) return;
  const rows = changes.map((change) => ({
    id: idToUuid(change.id),
    member: change.member,
    cause: change.cause,
    prev_state: change.prevState,
    state: change.state,
    running_ms: change.runningMs,
    stop_class: change.stopClass,
    stop_ms: change.stopMs,
    stop_delivered: change.stopDelivered,
    gone_ms: change.goneMs,
    ended_ms: change.endedMs,
    exit_class: change.exitClass,
    exit_code: change.exitCode,
    message: change.message,
    isolation: change.isolation,
    manifest_digest: change.manifestDigest,
    checkpoint_digest: change.checkpointDigest,
    log_artifact: change.logArtifact,
    element_results:
      change.elementResults === undefined ? undefined : resultsToJson(change.elementResults),
    folded: change.folded,
  }));
  await tx.query(update, [JSON.stringify(rows)]);
}

function resultsToJson(results: ElementResults): Partial<Record<ExitClass, string>> {
  const json: Partial<Record<ExitClass, string>> = {};
  for (const [exitClass, set] of Object.entries(results) as [ExitClass, IndexSet][]) {
    json[exitClass] = formatMultirange(set);
  }
  return json;
}

const markFolded = statement(
  "attempts_mark_folded",
  "update attempts set folded = true where id = any($1::uuid[])",
);

/** Notes that these attempts are part of their array's row. */
export async function storeFolded(tx: Querier, ids: readonly AttemptId[]): Promise<void> {
  await tx.query(markFolded, [ids.map(idToUuid)]);
}

const setFunded = statement(
  "attempts_set_funded",
  `update attempts a set funded_ms = c.funded_ms, hold_n = c.n
   from unnest($1::uuid[], $2::bigint[], $3::int[]) as c(id, funded_ms, n)
   where a.id = c.id and a.hold_n < c.n`,
);

/** Stores what the extended holds of attempts cover, for all of their members. */
export async function storeFunded(
  db: Querier,
  items: readonly { id: AttemptId; fundedMs: number; n: number }[],
): Promise<void> {
  await db.query(setFunded, [
    items.map((item) => idToUuid(item.id)),
    items.map((item) => item.fundedMs),
    items.map((item) => item.n),
  ]);
}

const setSaved = statement<{ id: string }>(
  "attempts_set_saved",
  `update attempts a set saved_ms = greatest(a.running_ms, c.saved_ms)
   from unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[]) as c(id, member, epoch, saved_ms)
     join attempts m on m.id = c.id and m.member = c.member and m.node_id = $5
   where a.id = c.id and a.epoch = c.epoch and a.running_ms is not null and a.state in ('RUNNING', 'STOPPING') and c.saved_ms > coalesce(a.saved_ms, 0)
   returning a.id`,
);

/**
 * Stores when attempts of a node told of their newest checkpoint, never before they ran; answers how many rows are news.
 * A gang's checkpoint is that of all members, whichever tells of it.
 */
export async function storeSaved(
  db: Querier,
  node: NodeId,
  items: readonly (Member & { epoch: number; savedMs: number })[],
): Promise<number> {
  const rows = await db.query(setSaved, [
    items.map((item) => idToUuid(item.attempt)),
    items.map((item) => item.member),
    items.map((item) => item.epoch),
    items.map((item) => item.savedMs),
    idToUuid(node),
  ]);
  return rows.length;
}

const selectSavedNodes = statement<{ node_id: string }>(
  "attempts_saved_nodes",
  "select distinct node_id from attempts where state <> 'ENDED' and saved_ms > $1",
);

/** Nodes with a running attempt that has saved a checkpoint after a time. */
export async function readNodesSavedSince(db: Querier, afterMs: number): Promise<NodeId[]> {
  const rows = await db.query(selectSavedNodes, [afterMs]);
  return rows.map((row) => uuidToId("node", row.node_id));
}

/** The nodes of attempts, each once. */
export function nodesOf(attempts: readonly Pick<StoredAttempt, "node">[]): NodeId[] {
  return [...new Set(attempts.map(({ node }) => node))];
}
