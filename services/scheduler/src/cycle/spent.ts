import type { TaskId } from "@fastgpu/domain/ids";
import { formatNanos } from "@fastgpu/domain/money";
import { skuOf } from "@fastgpu/ledger/sku";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction, type Tx } from "@fastgpu/postgres/transaction";
import type { Placement } from "@fastgpu/scheduling/plan";
import { newId } from "../new-id.ts";
import { suits } from "../spec/suits.ts";
import { lockTasks, updateTasks, type StoredTask, type TaskChange } from "../store/tasks.ts";
import { taskMoved } from "../transition/events.ts";
import { withoutPending } from "../transition/in-line.ts";
import { cycleLeader } from "./commit.ts";
import { apply, type CycleContext } from "./context.ts";
import { unlock } from "./fold-ended.ts";
import { endingMs, type MaxCostLeft } from "./money.ts";

/** A placement that was refused since too little is left of its task's max_cost, for good. */
export interface Spent {
  readonly placement: Placement;
  readonly maxCostNanos: bigint;
  readonly left: MaxCostLeft;
}

/**
 * Ends tasks (class `budget`) whose max_cost leaves too little for a lease on any GPU of the fleet that would do: they
 * would wait for ever. Answers those that have ended.
 */
export async function endSpent(
  c: CycleContext,
  spent: readonly Spent[],
  nowMs: number,
): Promise<readonly TaskId[]> {
  const candidates = new Map(spent.map((each) => [each.placement.task.id, each]));
  for (const each of spent) {
    if (await hasCheaperGpus(c, each)) candidates.delete(each.placement.task.id);
  }
  if (candidates.size === 0) return [];
  const ended = await transaction(c.core, (tx) =>
    endTasks(tx, candidates, { leaderEpoch: c.leaderEpoch, nowMs }),
  );
  await apply(c, { tasks: ended, nodes: [] });
  await unlock(c, ended, nowMs);
  return ended;
}

async function endTasks(
  tx: Tx,
  candidates: ReadonlyMap<TaskId, Spent>,
  { leaderEpoch, nowMs }: { leaderEpoch: bigint; nowMs: number },
): Promise<readonly TaskId[]> {
  await assertLeader(tx, cycleLeader, leaderEpoch);
  const tasks = (await lockTasks(tx, [...candidates.keys()].toSorted())).filter(
    (task) =>
      task.state === "QUEUED" &&
      !task.cancelRequested &&
      task.epoch === candidates.get(task.id)?.placement.task.epoch &&
      (task.array?.leased.length ?? 0) === 0,
  );
  const ended = tasks.map((task) => ({
    task,
    change: changeOf(task, candidates.get(task.id)!, nowMs),
  }));
  await updateTasks(
    tx,
    ended.map(({ change }) => change),
  );
  await appendEvents(
    tx,
    ended.flatMap(({ task, change }) => taskMoved(task, change, nowMs)),
  );
  return tasks.map(({ id }) => id);
}

function changeOf(task: StoredTask, { maxCostNanos, left }: Spent, nowMs: number): TaskChange {
  const { neededNanos, leftNanos } = left;
  const enough = maxCostNanos - leftNanos + neededNanos;
  const usd = (nanos: bigint): string => `${formatNanos(nanos)} USD`;
  const { array } = task;
  return {
    id: task.id,
    prevState: "QUEUED",
    state: "FAILED",
    exitClass: "budget",
    statusMessage:
      `of its max_cost of ${usd(maxCostNanos)} there are ${usd(leftNanos)} left, and a lease needs at least ` +
      `${usd(neededNanos)}: submit it again with at least ${usd(enough)}`,
    endedMs: nowMs,
    ...(array === undefined ? {} : { array: withoutPending(array) }),
  };
}

/** Whether what is left covers a lease on other GPUs of the fleet that would do: it may yet be placed there. */
async function hasCheaperGpus(c: CycleContext, { placement, maxCostNanos }: Spent) {
  const { task } = placement;
  const skus = otherSkus(c, placement);
  const ending = endingMs(task.stopGraceMs, c.times);
  const quantity = task.demand.gpuCount * task.replicas;
  for (const sku of skus) {
    const attempt = newId("att", c.clock.nowMs());
    const coverMs = ending + c.times.leaseTtlMs;
    const items = [{ sku, quantity }];
    const request = { attempt, placement, items, coverMs, minCoverMs: coverMs, maxCostNanos };
    const [answer] = await c.holds.create(c.leaderEpoch, [request]);
    if (answer?.kind === "open") await c.holds.void(c.leaderEpoch, [attempt]);
    // Where the account itself is empty nothing is said about the max_cost.
    if (!(answer?.kind === "refused" && answer.spent !== undefined)) return true;
  }
  return false;
}

/** Units of sale of GPUs that would do beside those of the placement. */
function otherSkus(c: CycleContext, { task, members }: Placement): readonly string[] {
  const taken = new Set<string>(members.flatMap(({ gpus }) => gpus));
  const all = [...c.mirror.nodes.values()].flatMap(({ gpus }) => gpus);
  const tried = new Set(all.filter(({ id }) => taken.has(id)).map(skuOf));
  const others = all.filter((gpu) => gpu.present && suits(gpu, task.demand)).map(skuOf);
  return [...new Set(others)].filter((sku) => !tried.has(sku));
}
