import { countIndices } from "@fastgpu/domain/index-set";
import type { Clock } from "@fastgpu/domain/clock";
import type { NodeId, TaskId } from "@fastgpu/domain/ids";
import type { Querier } from "@fastgpu/postgres/pool";
import {
  type PlanLease,
  type PlanNode,
  type PlanQueue,
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
import { readPastUsage, type PastUsage } from "../store/past-usage.ts";
import { readQueues } from "../store/queues.ts";
import { readLiveTasks, readTasks, type StoredTask } from "../store/tasks.ts";
import { createUsageBook, readPast, type Past } from "./past.ts";

/** A node with its GPUs and what runs on it. */
export interface MirroredNode {
  readonly node: StoredNode;
  readonly gpus: readonly StoredGpu[];
  readonly attempts: readonly StoredAttempt[];
  /** The same for the planner; a new object whenever it was read again. */
  readonly plan: PlanNode;
}

/** What the planner and the reason writer keep of a waiting task. */
export interface Waiting {
  readonly plan: PlanTask;
  /** As of when the plan's `queuedMs` is. */
  readonly asOfMs: number;
  /** False before its first attempt: what it still waits for is its asked start. */
  readonly tried: boolean;
  readonly reason: string | undefined;
  readonly message: string;
}

/** The leader's picture of the database: rebuilt at the start of its term, refreshed by dirty ids after that. */
export interface Mirror {
  /** Tasks that could be placed now, by id. */
  readonly waiting: ReadonlyMap<TaskId, Waiting>;
  readonly nodes: ReadonlyMap<NodeId, MirroredNode>;
  /** Reads everything; answers the arrays whose cancel is not folded yet. */
  rebuild(db: Querier): Promise<readonly TaskId[]>;
  /** Reads marked rows again; answers the tasks that were read. */
  refresh(
    db: Querier,
    marked: { tasks: readonly TaskId[]; nodes: readonly NodeId[] },
  ): Promise<readonly StoredTask[]>;
  /** Reads the queues again; answers whether one has changed. */
  refreshQueues(db: Querier): Promise<boolean>;
  /** Takes in what was charged to users; what all have had is as of `nowMs` after it. */
  noteUsage(charged: readonly PastUsage[], at: { nowMs: number; halfLifeMs: number }): void;
  /** The planner's view of it. */
  planState(): PlanState;
  /** These tasks were leased: they wait no more. */
  noteLeased(ids: Iterable<TaskId>): void;
  /** Remembers a stored reason, so that it is written once. */
  noteReason(id: TaskId, reason: string, message: string): void;
}

const pageSize = 5_000;
/** How old a waiting task's `queuedMs` may become: orders tell hours apart, not minutes. */
const queuedAgeMs = 600_000;

/** An empty mirror; call `rebuild` first. */
export function createMirror(clock: Clock): Mirror {
  const waiting = new Map<TaskId, Waiting>();
  const nodes = new Map<NodeId, MirroredNode>();
  let queues: readonly PlanQueue[] = [];
  /** Tells a changed list of queues from the same one. */
  let queuesRead = "";
  const usage = createUsageBook();

  const put = async (db: Querier, tasks: readonly StoredTask[]): Promise<void> => {
    const nowMs = clock.nowMs();
    const past = await readPast(db, tasks, nowMs);
    for (const task of tasks) {
      const plan = toPlanTask(task, past(task), nowMs);
      if (plan === undefined) waiting.delete(task.id);
      else {
        const { queueReason: reason, statusMessage: message } = task;
        waiting.set(task.id, {
          plan,
          asOfMs: nowMs,
          tried: task.attemptCount > 0,
          reason,
          message,
        });
      }
    }
  };
  const refreshQueues = async (db: Querier): Promise<boolean> => {
    queues = await readQueues(db);
    const read = JSON.stringify(queues);
    const changed = read !== queuesRead;
    queuesRead = read;
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
      const own = { gpus: gpusOf.get(node.id) ?? [], attempts: attemptsOf.get(node.id) ?? [] };
      nodes.set(node.id, { node, ...own, plan: toPlanNode(node, own.gpus, own.attempts) });
    }
  };
  return {
    waiting,
    nodes,
    async rebuild(db) {
      waiting.clear();
      nodes.clear();
      const cancelled: TaskId[] = [];
      for (let after: TaskId | undefined; ;) {
        const page = await readLiveTasks(db, after, pageSize);
        await put(db, page);
        for (const task of page) {
          if (task.array !== undefined && task.cancelRequested) cancelled.push(task.id);
        }
        after = page.at(-1)?.id;
        if (page.length < pageSize) break;
      }
      await refreshQueues(db);
      usage.restart(await readPastUsage(db), clock.nowMs());
      const stored = await readAllNodes(db);
      const ids = stored.map((node) => node.id);
      putNodes(stored, await readGpusOf(db, ids), await readLiveAttempts(db));
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
    refreshQueues,
    noteUsage: (charged, at) => usage.note(charged, at),
    planState() {
      growOlder(waiting, clock.nowMs());
      const running = leasesByTask(nodes.values());
      return {
        nodes: Array.from(nodes.values(), (mirrored) => mirrored.plan),
        tasks: [...waiting.values()].map(({ plan }) =>
          limitLeases(plan, running.get(plan.id) ?? 0),
        ),
        queues,
        usage: usage.plan(),
        reservations: [],
      };
    },
    noteLeased(ids) {
      for (const id of ids) waiting.delete(id);
    },
    noteReason(id, reason, message) {
      const found = waiting.get(id);
      if (found !== undefined) waiting.set(id, { ...found, reason, message });
    },
  };
}

/** Brings up to date how long tasks have queued, where that is old. */
function growOlder(waiting: Map<TaskId, Waiting>, nowMs: number): void {
  for (const [id, each] of waiting) {
    const olderMs = nowMs - each.asOfMs;
    if (olderMs < queuedAgeMs) continue;
    const plan = { ...each.plan, queuedMs: each.plan.queuedMs + olderMs };
    waiting.set(id, { ...each, plan, asOfMs: nowMs });
  }
}

/** The task for the planner, or undefined where nothing of it can be placed. */
function toPlanTask(task: StoredTask, past: Past, nowMs: number): PlanTask | undefined {
  if (task.cancelRequested || task.waitingFor > 0) return undefined;
  const live =
    task.array === undefined ? ["QUEUED"] : ["QUEUED", "SCHEDULED", "STARTING", "RUNNING"];
  if (!live.includes(task.state)) return undefined;
  const pending = task.array === undefined ? 1 : countIndices(task.array.pending);
  if (pending === 0) return undefined;
  const submittedMs = task.submittedMs ?? task.createdMs;
  return {
    id: task.id,
    org: task.org,
    project: task.project,
    user: task.user,
    epoch: task.epoch,
    priority: task.priority,
    submittedMs,
    notBeforeMs: task.notBeforeMs,
    demand: task.demand,
    replicas: task.replicas,
    topology: task.topology,
    preemptible: task.preemptible,
    preemptions: past.preemptions,
    stopGraceMs: task.stopGraceMs,
    attainedGpuMs: past.gpuMs,
    queuedMs: Math.max(0, nowMs - submittedMs - past.heldMs),
    maxRuntimeMs: task.maxRuntimeMs,
    excludedGpus: task.excludedGpus,
    traceparent: task.traceparent,
    array: task.array === undefined ? undefined : { pending, leasesLeft: task.array.parallelism },
  };
}

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
