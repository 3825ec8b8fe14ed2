import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import { lockOpenAllocations, readAttemptsDueForCut, storeCuts } from "../store/allocations.ts";
import { lockAttempts, storeFunded, updateAttempts } from "../store/attempts.ts";
import { readMissedDependencies } from "../store/dependencies.ts";
import { lockTasks, updateTasks } from "../store/tasks.ts";
import { cutAllocations, type Applied } from "../transition/apply.ts";
import { taskStateChanged } from "../transition/events.ts";
import { cycleLeader } from "./commit.ts";
import { apply, type CycleContext } from "./context.ts";
import { expireNode, hasExpired } from "./expire.ts";
import { unlock } from "./fold-ended.ts";
import { attemptsOf } from "./mirror.ts";
import { mustStopForBudget, needsExtension } from "./money.ts";

/** How often running GPUs have a usage segment cut. */
const cutEveryMs = 60_000;
/** How often dependencies are looked over for what a crash left. */
const missedEveryMs = 10_000;

/** Lost nodes, missed dependencies, money and usage: work that time brings, not news. */
export async function timeDriven(c: CycleContext, nowMs: number): Promise<void> {
  await expireNodes(c, nowMs);
  await unlockMissed(c, nowMs);
  await extendHolds(c, nowMs);
  await stopUnfunded(c, nowMs);
  await cutUsage(c, nowMs);
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
