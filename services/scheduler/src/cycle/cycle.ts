import { parseId } from "@fastgpu/domain/ids";
import { MAX_UNCERTAINTY_MS } from "@fastgpu/lifecycle/clock";
import type { LoopNext } from "@fastgpu/lifecycle/loop";
import { listEvents } from "@fastgpu/postgres/outbox";
import { storeStatus } from "../store/status.ts";
import type { CycleContext } from "./context.ts";
import { foldEnded, noteCancelled } from "./fold-ended.ts";
import { lease } from "./lease.ts";
import { makeRoom } from "./make-room.ts";
import { writeReasons } from "./reasons.ts";
import { timeDriven } from "./time-driven.ts";

/** Marks read in one cycle; what is left goes on at once in the next. */
const drainLimit = 2_000;
/** How often time-driven work is looked at: lost nodes, holds, segments. */
const sweepMs = 1_000;

/** How often the leader writes its figures. */
const statusMs = 5_000;

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
  let rightsChanged = false;
  let policyChanged = false;
  if (swept) {
    c.timers.lastSweepMs = nowMs;
    rightsChanged = await c.mirror.refreshRights(c.core);
    const policy = await c.policy.look();
    if (policy !== undefined) c.planner.setPolicy(policy);
    policyChanged = policy !== undefined;
    await timeDriven(c, nowMs);
    await tellStatus(c, nowMs);
  }
  const news = rightsChanged || policyChanged || marked.tasks.length > 0 || marked.nodes.length > 0;
  if (c.mirror.waiting.size === 0) {
    if (news) c.planner.note(c.mirror.planState(), nowMs);
    return marked.more ? "again" : "idle";
  }
  if (!news && nowMs < c.timers.nextBackoffMs) return "idle";
  if (!timeIsKnown(c)) return "idle";
  // 4. Decide, as data. A limit is counted again at the commit; nothing but the plan heeds a reservation.
  if (!swept) await c.mirror.refreshReservations(c.core);
  const all = c.mirror.planState();
  const { solvent, resting } = await c.purses.split(all.tasks, nowMs);
  const state = solvent === all.tasks ? all : { ...all, tasks: solvent };
  const plannedAt = performance.now();
  const decided = c.planner.plan(state, nowMs);
  c.figures.planned(performance.now() - plannedAt);
  // 5. Set money aside, 6. commit by compare-and-set, 7. give back what was not used.
  const unfunded = await lease(c, decided.placements, nowMs);
  // 8. Make room for those that others have to give way to.
  const poor = await makeRoom(c, decided.preemptions, nowMs);
  // 9. Say why the others wait.
  const blocked = new Map([...unfunded, ...poor]);
  const short = new Map([...resting, ...blocked]);
  await writeReasons(c, { tasks: all.tasks, decided, blocked: short });
  // What was kept for those who cannot pay goes to the others at once.
  const again = c.purses.refused(solvent, blocked, nowMs);
  c.timers.nextBackoffMs = again ? nowMs : nextTry(c, nowMs);
  return again || marked.more ? "again" : "idle";
}

/** Figures for whoever asks any replica; who leads and has nothing to do says so too. */
async function tellStatus(c: CycleContext, nowMs: number): Promise<void> {
  if (nowMs < c.timers.nextStatusMs) return;
  c.timers.nextStatusMs = nowMs + statusMs;
  const { replica: leader, leaderEpoch, sinceMs } = c;
  const figures = c.figures.read(c.mirror);
  await storeStatus(c.core, { leader, leaderEpoch, sinceMs, atMs: nowMs, figures });
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
  const { waiting } = c.mirror;
  const nextMs = [waiting.nextStartMs(nowMs), c.mirror.nextReservationMs(nowMs), c.purses.nextMs()];
  return Math.min(nowMs + 5_000, ...nextMs);
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
