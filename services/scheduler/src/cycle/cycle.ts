import type { Clock } from "@fastgpu/domain/clock";
import { parseId, type AttemptId, type GpuId, type NodeId, type TaskId } from "@fastgpu/domain/ids";
import { MAX_UNCERTAINTY_MS } from "@fastgpu/lifecycle/clock";
import type { LoopNext } from "@fastgpu/lifecycle/loop";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents, listEvents } from "@fastgpu/postgres/outbox";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Placement, Plan } from "@fastgpu/scheduling/plan";
import type { Planner } from "@fastgpu/scheduling/planner";
import type { Logger } from "@fastgpu/telemetry/log";
import { newId } from "../new-id.ts";
import { lockOpenAllocations, readAttemptsDueForCut, storeCuts } from "../store/allocations.ts";
import { lockAttempts, storeFunded, updateAttempts } from "../store/attempts.ts";
import { readMissedDependencies } from "../store/dependencies.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { lockTasks, storeReasons, updateTasks, type StoredTask } from "../store/tasks.ts";
import { cutAllocations, type Applied } from "../transition/apply.ts";
import { taskStateChanged } from "../transition/events.ts";
import { foldArrays } from "./arrays.ts";
import { commitLeases, cycleLeader, type Committed, type FundedPlacement } from "./commit.ts";
import { resolveDependents } from "./dependents.ts";
import type { Dirty } from "./dirty.ts";
import { expireNode, hasExpired } from "./expire.ts";
import type { Looked } from "./looked.ts";
import { attemptsOf, type Mirror } from "./mirror.ts";
import {
  holdRequest,
  mustStopForBudget,
  needsExtension,
  pricedGpus,
  type FundingTimes,
  type HoldAnswer,
  type HoldRequest,
} from "./money.ts";

/** What the cycle asks of billing. */
export interface Holds {
  create(leaderEpoch: bigint, requests: readonly HoldRequest[]): Promise<readonly HoldAnswer[]>;
  extend(
    leaderEpoch: bigint,
    items: readonly { attempt: AttemptId; n: number; coverMs: number }[],
  ): Promise<readonly HoldAnswer[]>;
  void(leaderEpoch: bigint, attempts: readonly AttemptId[]): Promise<void>;
  /** Attempts with open holds made under an older epoch, in order, after one. */
  listOlder(leaderEpoch: bigint, after: string): Promise<readonly string[]>;
}

/** What one term of the leader works with. */
export interface CycleContext {
  readonly core: Pool;
  readonly clock: Clock;
  readonly log: Logger;
  readonly leaderEpoch: bigint;
  readonly mirror: Mirror;
  readonly dirty: Dirty;
  readonly holds: Holds;
  readonly times: FundingTimes;
  /** The placement engine, with this term's picture of the fleet. */
  readonly planner: Planner;
  /** Opens the span of a lease below a task's trace and answers its trace context. */
  startLeaseSpan(traceparent: string, attributes: Record<string, string>): string;
  /** Tells sessions and watchers what has changed. */
  changed(what: { tasks: Iterable<TaskId>; nodes: Iterable<NodeId> }): void;
  /** Arrays whose cancel the leader has not folded yet. */
  readonly cancelledArrays: Set<TaskId>;
  readonly timers: { lastSweepMs: number; nextBackoffMs: number; nextMissedMs: number };
  /** The last event of our own log that was looked at. */
  readonly position: { seq: bigint };
  /** Revisions of tasks that were acted upon. */
  readonly looked: Looked;
}

/** Marks read in one cycle; what is left goes on at once in the next. */
const drainLimit = 2_000;
/** How often time-driven work is looked at: lost nodes, holds, segments. */
const sweepMs = 1_000;
/** How often running GPUs have a usage segment cut. */
const cutEveryMs = 60_000;
/** How often dependencies are looked over for what a crash left. */
const missedEveryMs = 10_000;

/**
 * One turn of the scheduler. Ideally it plans over the whole present state at once; it works on a mirror that lags
 * by one read, and the commit re-checks everything the plan relied on.
 */
export async function runCycle(c: CycleContext): Promise<LoopNext> {
  const nowMs = c.clock.nowMs();
  const swept = nowMs - c.timers.lastSweepMs >= sweepMs;
  // 1. Read what has changed.
  if (swept) await markFromLog(c);
  const marked = c.dirty.drain(drainLimit);
  const tasks = await c.mirror.refresh(c.core, marked);
  // 2. Fold what ended: ranges into arrays, parents into their dependents.
  noteCancelled(c, tasks);
  await foldEnded(c, tasks, nowMs, swept);
  for (const task of tasks) c.looked.note(task.id, task.revision);
  // 3. Time-driven work: lost nodes, money, usage.
  let queuesChanged = false;
  if (swept) {
    c.timers.lastSweepMs = nowMs;
    queuesChanged = await c.mirror.refreshQueues(c.core);
    await expireNodes(c, nowMs);
    await unlockMissed(c, nowMs);
    await extendHolds(c, nowMs);
    await stopUnfunded(c, nowMs);
    await cutUsage(c, nowMs);
  }
  if (c.mirror.waiting.size === 0) return marked.more ? "again" : "idle";
  const news = queuesChanged || marked.tasks.length > 0 || marked.nodes.length > 0;
  if (!news && nowMs < c.timers.nextBackoffMs) return "idle";
  if (!timeIsKnown(c)) return "idle";
  // 4. Decide, as data.
  const decided = c.planner.plan(c.mirror.planState(), nowMs);
  // 5. Set money aside, 6. commit by compare-and-set, 7. give back what was not used.
  const blocked = await lease(c, decided.placements, nowMs);
  // 8. Say why the others wait.
  await writeReasons(c, decided, blocked);
  c.timers.nextBackoffMs = nextTry(c, nowMs);
  return marked.more ? "again" : "idle";
}

/** A leader that does not know the time well must not promise any: its leases would end when nobody expects it. */
function timeIsKnown(c: CycleContext): boolean {
  const uncertaintyMs = c.clock.uncertaintyMs?.() ?? 0;
  if (uncertaintyMs <= MAX_UNCERTAINTY_MS) return true;
  c.log.warn({ uncertaintyMs }, "the clock is too uncertain: nothing is leased");
  return false;
}

/** Without news, the next moment at which a plan could come out otherwise. */
function nextTry(c: CycleContext, nowMs: number): number {
  let next = nowMs + 5_000;
  for (const { plan: task } of c.mirror.waiting.values()) {
    if (task.notBeforeMs > nowMs) next = Math.min(next, task.notBeforeMs);
  }
  return next;
}

/** Marks what our own log tells: the changes of other replicas, and local signals that were lost. */
async function markFromLog(c: CycleContext): Promise<void> {
  for (;;) {
    const page = await listEvents(c.core, c.position.seq, 1_000);
    const last = page.events.at(-1);
    if (last === undefined) return;
    c.position.seq = last.seq;
    const tasks = page.events.flatMap(({ aggregate, aggregateRevision }) => {
      const id = parseId("task", aggregate);
      return id === undefined || c.looked.covers(id, aggregateRevision) ? [] : [id];
    });
    if (tasks.length > 0) c.dirty.mark({ tasks });
  }
}

function noteCancelled(c: CycleContext, tasks: readonly StoredTask[]): void {
  for (const task of tasks) {
    const ended = task.endedMs !== undefined;
    if (task.array !== undefined && task.cancelRequested && !ended) c.cancelledArrays.add(task.id);
  }
}

async function foldEnded(
  c: CycleContext,
  tasks: readonly StoredTask[],
  nowMs: number,
  swept: boolean,
): Promise<void> {
  const at = { leaderEpoch: c.leaderEpoch, nowMs };
  const ended = tasks.filter((task) => task.endedMs !== undefined).map((task) => task.id);
  const arrays =
    swept || tasks.some((task) => task.array !== undefined) || c.cancelledArrays.size > 0;
  if (arrays) {
    const cancelled = [...c.cancelledArrays];
    const folded = await transaction(c.core, (tx) => foldArrays(tx, { ...at, cancelled }));
    for (const id of cancelled) c.cancelledArrays.delete(id);
    ended.push(...folded.ended);
    await apply(c, { tasks: folded.changed, nodes: [] });
  }
  await unlock(c, ended, nowMs);
}

async function unlock(c: CycleContext, ended: readonly TaskId[], nowMs: number): Promise<void> {
  for (let parents = ended; parents.length > 0;) {
    const at = { leaderEpoch: c.leaderEpoch, nowMs };
    const next = parents;
    const resolved = await transaction(c.core, (tx) => resolveDependents(tx, next, at));
    await apply(c, { tasks: resolved.changed, nodes: [] });
    parents = resolved.failed;
  }
}

/** Takes a change of our own into the mirror at once, and tells the others. */
async function apply(
  c: CycleContext,
  what: { tasks: readonly TaskId[]; nodes: readonly NodeId[] },
) {
  if (what.tasks.length === 0 && what.nodes.length === 0) return;
  await c.mirror.refresh(c.core, what);
  c.changed(what);
}

async function expireNodes(c: CycleContext, nowMs: number): Promise<void> {
  const at = { leaderEpoch: c.leaderEpoch, nowMs, skewMs: c.times.skewMs };
  const stale = [...c.mirror.nodes.values()].filter(({ node }) => hasExpired(node, at));
  if (stale.length === 0) return;
  // The mirror does not see renewals: read again before believing it.
  await c.mirror.refresh(c.core, { tasks: [], nodes: stale.map(({ node }) => node.id) });
  for (const { node } of stale) {
    const present = c.mirror.nodes.get(node.id);
    if (present === undefined || !hasExpired(present.node, at)) continue;
    const applied: Applied | undefined = await transaction(c.core, (tx) =>
      expireNode(tx, node.id, at),
    );
    if (applied === undefined) continue;
    c.log.warn({ node: node.id, tasks: applied.tasks.length }, "node lost");
    await apply(c, { tasks: applied.tasks, nodes: [node.id] });
    await unlock(c, applied.ended, nowMs);
  }
}

/** Dependencies that a crash left between a parent's end and the unlocking. */
async function unlockMissed(c: CycleContext, nowMs: number): Promise<void> {
  if (nowMs < c.timers.nextMissedMs) return;
  c.timers.nextMissedMs = nowMs + missedEveryMs;
  const missed = await readMissedDependencies(c.core);
  await unlock(c, [...new Set(missed.map((dependency) => dependency.parent))], nowMs);
}

async function extendHolds(c: CycleContext, nowMs: number): Promise<void> {
  const at = { nowMs, times: c.times };
  const due = [...attemptsOf(c.mirror).values()].filter((attempt) => needsExtension(attempt, at));
  if (due.length === 0) return;
  const items = due.map((attempt) => ({
    attempt: attempt.id,
    n: attempt.holdN + 1,
    coverMs:
      Math.max(0, nowMs - (attempt.runningMs ?? nowMs)) +
      attempt.stopGraceMs +
      c.times.skewMs +
      c.times.marginMs +
      c.times.coverMs,
  }));
  const answers = await c.holds.extend(c.leaderEpoch, items);
  const funded = items.flatMap((item, i) => {
    const answer = answers[i];
    return answer?.kind === "open"
      ? [{ id: item.attempt, fundedMs: answer.fundedMs, n: item.n }]
      : [];
  });
  if (funded.length > 0) await storeFunded(c.core, funded);
  const nodes = [...new Set(due.map((attempt) => attempt.node))];
  await c.mirror.refresh(c.core, { tasks: [], nodes });
}

async function stopUnfunded(c: CycleContext, nowMs: number): Promise<void> {
  const at = { nowMs, times: c.times };
  const due = [...attemptsOf(c.mirror).values()].filter((each) => mustStopForBudget(each, at));
  if (due.length === 0) return;
  const stopped = await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    const tasks = await lockTasks(tx, [...new Set(due.map((attempt) => attempt.task))].toSorted());
    const attempts = await lockAttempts(tx, due.map((attempt) => attempt.id).toSorted());
    const stopping = attempts.filter((each) =>
      ["LEASED", "STARTING", "RUNNING"].includes(each.state),
    );
    await updateAttempts(
      tx,
      stopping.map((attempt) => ({
        id: attempt.id,
        prevState: attempt.state,
        state: "STOPPING",
        stopClass: "budget",
        stopMs: nowMs,
      })),
    );
    const moved = tasks.filter(
      (task) =>
        task.array === undefined && ["SCHEDULED", "STARTING", "RUNNING"].includes(task.state),
    );
    await updateTasks(
      tx,
      moved.map((task) => ({
        id: task.id,
        prevState: task.state,
        state: "STOPPING",
        statusMessage: "the money for it runs out: it was told to stop",
      })),
    );
    await appendEvents(
      tx,
      moved.map((task) =>
        taskStateChanged(
          { ...task, revision: task.revision + 1 },
          { from: task.state, to: "STOPPING" },
          nowMs,
        ),
      ),
    );
    return stopping;
  });
  await apply(c, {
    tasks: stopped.map((attempt) => attempt.task),
    nodes: [...new Set(stopped.map((attempt) => attempt.node))],
  });
}

async function cutUsage(c: CycleContext, nowMs: number): Promise<void> {
  const due = await readAttemptsDueForCut(c.core, nowMs - cutEveryMs);
  if (due.length === 0) return;
  await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    const attempts = await lockAttempts(tx, due);
    const held = Map.groupBy(await lockOpenAllocations(tx, due), (each) => each.attempt);
    for (const attempt of attempts) {
      const lastSeenMs = c.mirror.nodes.get(attempt.node)?.node.lastSeenMs ?? nowMs;
      // Never past the last sign of life: what comes after it may turn out to be unknown.
      const endMs = Math.min(nowMs, Math.max(lastSeenMs, nowMs - cutEveryMs));
      const cut = cutAllocations(attempt, held.get(attempt.id) ?? [], {
        endMs,
        final: false,
        nowMs,
      });
      await storeCuts(tx, cut.cuts);
      await appendEvents(tx, [cut.event]);
    }
  });
  c.changed({ tasks: [], nodes: [] });
}

/** Holds, commits and gives back; answers the tasks that wait for money. */
async function lease(
  c: CycleContext,
  placements: readonly Placement[],
  nowMs: number,
): Promise<ReadonlyMap<TaskId, string>> {
  const blocked = new Map<TaskId, string>();
  if (placements.length === 0) return blocked;
  const gpus = gpusOf(c.mirror);
  const asked = placements.map((placement) => ({ attempt: newId("att", nowMs), placement }));
  const requests = asked.flatMap((each) => holdRequest(each, gpus, c.times) ?? []);
  const answers = requests.length === 0 ? [] : await c.holds.create(c.leaderEpoch, requests);
  const answerOf = new Map(requests.map((request, i) => [request.attempt, answers[i]]));
  const funded: FundedPlacement[] = [];
  for (const { attempt, placement } of asked) {
    const answer = answerOf.get(attempt);
    if (placement.gpus.length > 0 && answer?.kind !== "open") {
      blocked.set(
        placement.task.id,
        answer?.kind === "refused" ? answer.message : "billing gave no hold",
      );
      continue;
    }
    const open = answer?.kind === "open" ? answer : undefined;
    funded.push({
      attempt,
      placement,
      fundedMs: open?.fundedMs,
      gpus: pricedGpus(placement, gpus, open?.priceVersions ?? new Map()),
      traceparent: c.startLeaseSpan(placement.task.traceparent, {
        "fastgpu.task": placement.task.id,
        "fastgpu.attempt": attempt,
        "fastgpu.node": placement.node,
      }),
    });
  }
  if (funded.length > 0) await commit(c, funded);
  return blocked;
}

async function commit(c: CycleContext, funded: readonly FundedPlacement[]): Promise<void> {
  const at = { leaderEpoch: c.leaderEpoch, nowMs: c.clock.nowMs() };
  const committed = await transaction(c.core, (tx) => commitLeases(tx, funded, at));
  const unused = committed.rejected.filter((each) => each.fundedMs !== undefined);
  if (unused.length > 0)
    await c.holds.void(
      c.leaderEpoch,
      unused.map((each) => each.attempt),
    );
  await noteLeases(c, funded, committed);
}

/**
 * Takes our own leases into the mirror. A plain task that was leased waits no more, which needs no read; what they
 * took of the nodes is read with the next news of these nodes, before the next plan.
 */
async function noteLeases(
  c: CycleContext,
  funded: readonly FundedPlacement[],
  { leased, rejected }: Committed,
): Promise<void> {
  const nodes = [...new Set(funded.map(({ placement }) => placement.node))];
  c.mirror.noteLeased(
    leased.flatMap(({ placement: { task } }) => (task.array === undefined ? [task.id] : [])),
  );
  const doubtful = [...rejected, ...leased.filter(({ placement }) => placement.task.array)];
  const again = [...new Set(doubtful.map(({ placement }) => placement.task.id))];
  await c.mirror.refresh(c.core, { tasks: again, nodes: [] });
  c.dirty.noteNodes(nodes);
  const tasks = [...new Set(funded.map(({ placement }) => placement.task.id))];
  c.changed({ tasks, nodes });
}

function gpusOf(mirror: Mirror): ReadonlyMap<GpuId, StoredGpu> {
  const all = new Map<GpuId, StoredGpu>();
  for (const { gpus } of mirror.nodes.values()) for (const gpu of gpus) all.set(gpu.id, gpu);
  return all;
}

async function writeReasons(
  c: CycleContext,
  decided: Plan,
  blocked: ReadonlyMap<TaskId, string>,
): Promise<void> {
  const changed: Parameters<typeof storeReasons>[1][number][] = [];
  for (const [id, { plan: task, reason, message }] of c.mirror.waiting) {
    const money = blocked.get(id);
    const wait =
      money === undefined
        ? decided.reasons.get(id)
        : ({ reason: "BUDGET_EXHAUSTED", message: money } as const);
    if (wait === undefined || (wait.reason === reason && wait.message === message)) continue;
    changed.push({ id, epoch: task.epoch, reason: wait.reason, message: wait.message });
    c.mirror.noteReason(id, wait.reason, wait.message);
  }
  if (changed.length === 0) return;
  await storeReasons(c.core, changed);
  c.changed({ tasks: changed.map((each) => each.id), nodes: [] });
}
