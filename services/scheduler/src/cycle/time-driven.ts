import { memberName } from "@fastgpu/domain/member-name";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import { renewRanksEveryMs } from "@fastgpu/scheduling/order/ranks";
import { lockOpenAllocations, readAttemptsDueForCut, storeCuts } from "../store/allocations.ts";
import {
  lockAttempts,
  nodesOf,
  readNodesSavedSince,
  storeFunded,
  updateAttempts,
  type StoredAttempt,
} from "../store/attempts.ts";
import { readMissedDependencies } from "../store/dependencies.ts";
import { chargeUsage } from "../store/past-usage.ts";
import { releaseStaleReservations } from "../store/reservations.ts";
import { lockTasks } from "../store/tasks.ts";
import { cutAllocations, type Applied } from "../transition/apply.ts";
import { stopChanges, stoppableOf, stopTasks } from "../transition/stop.ts";
import { cycleLeader } from "./commit.ts";
import { apply, type CycleContext } from "./context.ts";
import { expireNode, hasExpired } from "./expire.ts";
import { unlock } from "./fold-ended.ts";
import { attemptsOf } from "./mirror.ts";
import { endingMs, mustStopForBudget, needsExtension } from "./money.ts";

/** How often running GPUs have a usage segment cut. */
const cutEveryMs = 60_000;
/** How often dependencies are looked over for what a crash left. */
const missedEveryMs = 10_000;
/** How often cut GPU time is charged to its users. */
const chargeEveryMs = 10_000;
/** How often run times are learned of what has ended. */
const learnEveryMs = 5_000;
/** How often checkpoints that were told of are read. */
const checkpointsEveryMs = 5_000;

/** Lost nodes, missed dependencies, money and usage: work that time brings, not news. */
export async function timeDriven(c: CycleContext, nowMs: number): Promise<void> {
  await expireNodes(c, nowMs);
  await unlockMissed(c, nowMs);
  await extendHolds(c, nowMs);
  await stopUnfunded(c, nowMs);
  await cutUsage(c, nowMs);
  await chargeUsers(c, nowMs);
  await readCheckpoints(c, nowMs);
  await learnRunTimes(c, nowMs);
  await releaseStale(c, nowMs);
}

/** Past service counts in the shares: what was cut is charged to who had it. */
async function chargeUsers(c: CycleContext, nowMs: number): Promise<void> {
  if (nowMs < c.timers.nextChargeMs) return;
  c.timers.nextChargeMs = nowMs + chargeEveryMs;
  const { halfLifeMs } = c.policy.current.policy.usage;
  const charged = await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    return chargeUsage(tx, { nowMs, halfLifeMs });
  });
  c.mirror.noteUsage(charged, { nowMs, halfLifeMs });
}

/** What has ended says how long the like of it runs: backfill goes by it, and now and then the order. */
async function learnRunTimes(c: CycleContext, nowMs: number): Promise<void> {
  if (nowMs < c.timers.nextLearnMs) return;
  c.timers.nextLearnMs = nowMs + learnEveryMs;
  await c.mirror.runTimes.learn(c.core);
  const { order } = c.policy.current.policy;
  if (order.historyBoundMd === 0 || nowMs < c.timers.nextRanksMs) return;
  c.timers.nextRanksMs = nowMs + renewRanksEveryMs;
  c.mirror.runTimes.renewRanks(c.mirror.planState(), { nowMs, options: order });
}

/** Checkpoints that any replica has heard of: the plan gives up what loses least. */
async function readCheckpoints(c: CycleContext, nowMs: number): Promise<void> {
  if (nowMs - c.timers.savedMs < checkpointsEveryMs) return;
  // Another replica's clock may be a little behind: what it wrote is looked at twice rather than never.
  const nodes = await readNodesSavedSince(c.core, c.timers.savedMs - checkpointsEveryMs);
  c.timers.savedMs = nowMs;
  await c.mirror.refresh(c.core, { tasks: [], nodes });
}

/** What was kept for a task that does not come for it any more is everybody's again. */
async function releaseStale(c: CycleContext, nowMs: number): Promise<void> {
  const reserved = [...c.mirror.nodes.values()].some(({ gpus }) =>
    gpus.some((gpu) => gpu.reserved !== undefined),
  );
  if (!reserved) return;
  const nodes = await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    return releaseStaleReservations(tx, nowMs);
  });
  if (nodes.length > 0) c.dirty.mark({ nodes });
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
    // Members of gangs on other nodes were told to stop.
    await apply(c, { tasks: applied.tasks, nodes: [...new Set([node.id, ...applied.nodes])] });
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
  const due = attemptsOf(c.mirror).filter((attempt) => needsExtension(attempt, at));
  if (due.length === 0) return;
  // One hold covers all members of a gang, for as long as the one needs that has run longest.
  const items = Array.from(
    Map.groupBy(due, ({ id }) => id),
    ([id, members]) => ({
      attempt: id,
      n: Math.max(...members.map(({ holdN }) => holdN)) + 1,
      coverMs: Math.max(...members.map((member) => coverMs(member, c, nowMs))),
    }),
  );
  const answers = await c.holds.extend(c.leaderEpoch, items);
  const funded = items.flatMap((item, i) => {
    const answer = answers[i];
    return answer?.kind === "open"
      ? [{ id: item.attempt, fundedMs: answer.fundedMs, n: item.n }]
      : [];
  });
  if (funded.length > 0) await storeFunded(c.core, funded);
  const ids = new Set(items.map(({ attempt }) => attempt));
  const members = attemptsOf(c.mirror).filter(({ id }) => ids.has(id));
  await c.mirror.refresh(c.core, { tasks: [], nodes: nodesOf(members) });
}

function coverMs(attempt: StoredAttempt, { times }: CycleContext, nowMs: number): number {
  const ranMs = Math.max(0, nowMs - (attempt.runningMs ?? nowMs));
  return ranMs + endingMs(attempt.stopGraceMs, times) + times.coverMs;
}

async function stopUnfunded(c: CycleContext, nowMs: number): Promise<void> {
  const at = { nowMs, times: c.times };
  const due = attemptsOf(c.mirror).filter((each) => mustStopForBudget(each, at));
  if (due.length === 0) return;
  const stopped = await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    const tasks = await lockTasks(tx, [...new Set(due.map((attempt) => attempt.task))].toSorted());
    // Of a gang all members, whichever of them has used up its money first.
    const ids = [...new Set(due.map((attempt) => attempt.id))].toSorted();
    const stopping = stoppableOf(await lockAttempts(tx, ids));
    await updateAttempts(tx, stopChanges(stopping, "budget", nowMs));
    const message = "the money for it runs out: it was told to stop";
    await stopTasks(
      tx,
      tasks.map((task) => ({ task, message })),
      nowMs,
    );
    return stopping;
  });
  await apply(c, {
    tasks: stopped.map((attempt) => attempt.task),
    nodes: nodesOf(stopped),
  });
}

async function cutUsage(c: CycleContext, nowMs: number): Promise<void> {
  const due = await readAttemptsDueForCut(c.core, nowMs - cutEveryMs);
  if (due.length === 0) return;
  await transaction(c.core, async (tx) => {
    await assertLeader(tx, cycleLeader, c.leaderEpoch);
    const attempts = await lockAttempts(tx, due);
    const held = await lockOpenAllocations(tx, attempts);
    for (const attempt of attempts) {
      const own = held.get(memberName({ attempt: attempt.id, member: attempt.member })) ?? [];
      if (own.length === 0) continue;
      const lastSeenMs = c.mirror.nodes.get(attempt.node)?.node.lastSeenMs ?? nowMs;
      // Never past the last sign of life: what comes after it may turn out to be unknown.
      const endMs = Math.min(nowMs, Math.max(lastSeenMs, nowMs - cutEveryMs));
      const cut = cutAllocations(attempt, own, { endMs, released: false, final: false, nowMs });
      await storeCuts(tx, cut.cuts);
      await appendEvents(tx, [cut.event]);
    }
  });
  c.changed({ tasks: [], nodes: [] });
}
