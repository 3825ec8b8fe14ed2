import { countIndices } from "@fastgpu/domain/index-set";
import type { Clock } from "@fastgpu/domain/clock";
import type { NodeId, TaskId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import type { TransactionOptions, Tx } from "@fastgpu/postgres/transaction";
import {
  type PlanLease,
  type PlanNode,
  type PlanQueue,
  type PlanReservation,
  type PlanState,
  type PlanTask,
} from "@fastgpu/scheduling/plan";
import { readLiveAttempts, readLiveAttemptsOf, type StoredAttempt } from "../store/attempts.ts";
import {
  readAllNodes,
  readGpusOf,
  readNodes,
  type StoredGpu,
  type StoredNode,
} from "../store/nodes.ts";
import { readCouldWait } from "../store/fresh.ts";
import { readPastUsage, type PastUsage } from "../store/past-usage.ts";
import { readOpenReservations } from "../store/fleet-reservations.ts";
import { readLastRuns, type PastRun } from "../store/run-times.ts";
import { readQueues } from "../store/queues.ts";
import { readTasks, type StoredTask } from "../store/tasks.ts";
import { createRunTimeBook, type RunTimeBook } from "./run-times.ts";
import { createUsageBook, readPast } from "./past.ts";
import { createWaitingTasks, type WaitingTasks } from "./waiting.ts";
import type { WindowBounds } from "@fastgpu/scheduling/line-window";

/** A node with its GPUs and what runs on it. */
export interface MirroredNode {
  readonly node: StoredNode;
  readonly gpus: readonly StoredGpu[];
  readonly attempts: readonly StoredAttempt[];
  /** The same for the planner; a new object whenever it was read again. */
  readonly plan: PlanNode;
}

/** The leader's picture of the database: rebuilt at the start of its term, refreshed by dirty ids after that. */
export interface Mirror {
  /** Tasks that could be placed now. */
  readonly waiting: WaitingTasks;
  readonly nodes: ReadonlyMap<NodeId, MirroredNode>;
  /**
   * Reads everything, in a transaction as of {@link oneMoment}; answers the arrays whose cancel is not folded yet. `runs`:
   * past ones that were read already.
   */
  rebuild(tx: Tx, runs?: readonly PastRun[]): Promise<readonly TaskId[]>;
  /** Reads marked rows again; answers the tasks that were read. */
  refresh(
    db: Querier,
    marked: { tasks: readonly TaskId[]; nodes: readonly NodeId[] },
  ): Promise<readonly StoredTask[]>;
  /** Reads the queues and reservations again; answers whether one has changed, or is over. */
  refreshRights(db: Querier): Promise<boolean>;
  /** Reads the reservations alone. */
  refreshReservations(db: Querier): Promise<void>;
  /** When the next reservation begins or ends after a time; Infinity: none does. */
  nextReservationMs(afterMs: number): number;
  /** Takes in what was charged to users; what all have had is as of `nowMs` after it. */
  noteUsage(charged: readonly PastUsage[], at: { nowMs: number; halfLifeMs: number }): void;
  /** What is known of run times; attempts that have left the picture are learned from. */
  readonly runTimes: RunTimeBook;
  /** The planner's view of it. */
  planState(): PlanState;
  /** These tasks were leased: they wait no more. */
  noteLeased(ids: Iterable<TaskId>): void;
}

/** What a whole picture is read in: a task that changes meanwhile is marked, and read again after it. */
export const oneMoment: TransactionOptions = { isolation: "REPEATABLE READ", readOnly: true };

/** Rows that are taken in at once: some tens of milliseconds in which nothing else of the process runs. */
const pageRows = 10_000;

/** An empty mirror; call `rebuild` first. `window` bounds what a plan looks at, see {@link createWaitingTasks}. */
export function createMirror(clock: Clock, window?: WindowBounds): Mirror {
  const waiting = createWaitingTasks(window);
  const nodes = new Map<NodeId, MirroredNode>();
  let queues: readonly PlanQueue[] = [];
  let reservations: readonly PlanReservation[] = [];
  /** Tells changed queues and reservations from the same ones. */
  let rightsRead = "";
  const usage = createUsageBook();
  const runTimes = createRunTimeBook();

  const put = async (db: Querier, tasks: readonly StoredTask[]): Promise<void> => {
    const nowMs = clock.nowMs();
    const past = await readPast(db, tasks, nowMs);
    for (const task of tasks) {
      waiting.put(task, past(task));
    }
  };
  const refreshReservations = async (db: Querier): Promise<void> => {
    reservations = (await readOpenReservations(db, clock.nowMs())).map(toPlanReservation);
  };
  const refreshRights = async (db: Querier): Promise<boolean> => {
    queues = await readQueues(db);
    await refreshReservations(db);
    const read = JSON.stringify([queues, reservations]);
    const changed = read !== rightsRead;
    rightsRead = read;
    return changed;
  };
  const putNodes = (
    stored: readonly StoredNode[],
    gpus: readonly StoredGpu[],
    attempts: readonly StoredAttempt[],
  ): void => {
    const gpusOf = Map.groupBy(gpus, (gpu) => gpu.node);
    const attemptsOf = Map.groupBy(attempts, (attempt) => attempt.node);
    for (const node of stored) {
      const live = new Set(attemptsOf.get(node.id)?.map(({ id }) => id));
      for (const { id } of nodes.get(node.id)?.attempts ?? []) {
        if (!live.has(id)) runTimes.noteEnded(id);
      }
      const own = { gpus: gpusOf.get(node.id) ?? [], attempts: attemptsOf.get(node.id) ?? [] };
      nodes.set(node.id, { node, ...own, plan: toPlanNode(node, own.gpus, own.attempts) });
    }
  };
  return {
    waiting,
    nodes,
    runTimes,
    async rebuild(tx, runs) {
      waiting.clear();
      nodes.clear();
      runTimes.restart(runs ?? (await readLastRuns(tx)));
      const cancelled: TaskId[] = [];
      for await (const { fresh, others } of readCouldWait(tx, pageRows)) {
        waiting.putFresh(fresh);
        if (others.length === 0) continue;
        const tasks = await readTasks(tx, others);
        await put(tx, tasks);
        for (const task of tasks) {
          if (task.array !== undefined && task.cancelRequested) cancelled.push(task.id);
        }
      }
      await refreshRights(tx);
      usage.restart(await readPastUsage(tx), clock.nowMs());
      const stored = await readAllNodes(tx);
      const ids = stored.map((node) => node.id);
      putNodes(stored, await readGpusOf(tx, ids), await readLiveAttempts(tx));
      return cancelled;
    },
    async refresh(db, marked) {
      const tasks = marked.tasks.length === 0 ? [] : await readTasks(db, marked.tasks);
      await put(db, tasks);
      if (marked.nodes.length > 0) {
        const stored = await readNodes(db, marked.nodes);
        const gpus = await readGpusOf(db, marked.nodes);
        putNodes(stored, gpus, await readLiveAttemptsOf(db, marked.nodes));
      }
      return tasks;
    },
    refreshRights,
    refreshReservations,
    nextReservationMs: (afterMs) => nextEdgeMs(reservations, afterMs),
    noteUsage: (charged, at) => usage.note(charged, at),
    planState() {
      const running = leasesByTask(nodes.values());
      return {
        nodes: Array.from(nodes.values(), (mirrored) => mirrored.plan),
        tasks: waiting.window().map((task) => limitLeases(task, running.get(task.id) ?? 0)),
        behind: waiting.behind(),
        queues,
        usage: usage.plan(),
        reservations,
        runTimes: runTimes.plan(),
        ranks: runTimes.ranks(),
      };
    },
    noteLeased(ids) {
      for (const id of ids) waiting.delete(id);
    },
  };
}

/** When the next of them begins or ends after a time. */
const nextEdgeMs = (reservations: readonly PlanReservation[], afterMs: number): number =>
  Math.min(
    ...reservations.flatMap(({ startMs, endMs }) => [startMs, endMs]).filter((ms) => ms > afterMs),
  );

/** What the plan needs of it, and the recording keeps: no names. */
const toPlanReservation = (of: PlanReservation): PlanReservation => {
  const { id, org, project, gpus, perNode, models, startMs, endMs } = of;
  const plain = { id, org, project, gpus, models, startMs, endMs };
  return perNode === undefined ? plain : { ...plain, perNode };
};

/** Leases run their elements one after the other, so an array's parallelism bounds its leases. */
function limitLeases(task: PlanTask, running: number): PlanTask {
  if (task.array === undefined || running === 0) return task;
  return {
    ...task,
    array: { ...task.array, leasesLeft: Math.max(0, task.array.leasesLeft - running) },
  };
}

function leasesByTask(nodes: Iterable<MirroredNode>): Map<TaskId, number> {
  const counts = new Map<TaskId, number>();
  for (const { attempts } of nodes) {
    for (const { task } of attempts) counts.set(task, (counts.get(task) ?? 0) + 1);
  }
  return counts;
}

function toPlanNode(
  node: StoredNode,
  gpus: readonly StoredGpu[],
  attempts: readonly StoredAttempt[],
): PlanNode {
  // Resources are given back with the processes; the rest of an attempt is only the keeping of its outputs.
  const holding = attempts.filter((attempt) => attempt.goneMs === undefined);
  return {
    id: node.id,
    name: node.displayName,
    acceptsWork: node.state === "READY",
    runtimes: node.runtimes,
    cpuMillis: node.cpuMillis,
    memoryMib: node.memoryMib,
    diskMib: node.diskMib,
    gpus: gpus
      .filter((gpu) => gpu.present)
      .map(({ id, model, memoryMib, simulated, state, reserved }) => ({
        id,
        model,
        memoryMib,
        simulated,
        free: state === "IDLE",
        reservedFor: reserved?.for,
      })),
    topology: node.topology,
    running: holding.map((attempt) => toPlanLease(attempt, gpus)),
  };
}

function toPlanLease(attempt: StoredAttempt, gpus: readonly StoredGpu[]): PlanLease {
  const { id, member, task, org, project, cpuMillis, memoryMib, diskMib, atLease } = attempt;
  const elements = attempt.elements === undefined ? 1 : countIndices(attempt.elements);
  const turns = Math.ceil(elements / Math.max(1, attempt.slots));
  const turnMs = atLease.maxRuntimeMs + attempt.stopGraceMs;
  return {
    ...{ attempt: id, member, task, org, project, cpuMillis, memoryMib, diskMib },
    user: atLease.user,
    gpus: gpus.filter((gpu) => gpu.attempt === id && gpu.member === member).map((gpu) => gpu.id),
    priority: atLease.priority,
    submittedMs: atLease.submittedMs,
    heldSinceMs: attempt.leaseMs,
    runningSinceMs: attempt.runningMs,
    savedMs: attempt.savedMs,
    attainedGpuMs: atLease.attainedGpuMs,
    preemptions: atLease.preemptions,
    preemptible: atLease.preemptible,
    stopping: attempt.stopMs !== undefined,
    // What still starts is taken to run from now on its lease.
    ...(attempt.elements === undefined ? {} : { turns }),
    endsByMs:
      attempt.stopMs === undefined
        ? (attempt.runningMs ?? attempt.leaseMs) + turns * turnMs
        : attempt.stopMs + attempt.stopGraceMs,
  };
}

/** The attempts of a mirror; of gangs, every member. */
export function attemptsOf(mirror: Mirror): StoredAttempt[] {
  return Array.from(mirror.nodes.values(), ({ attempts }) => attempts).flat();
}
