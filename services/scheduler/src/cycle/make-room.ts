import type { GpuId, TaskId } from "@fastgpu/domain/ids";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Placement, PlanTask, Preemption } from "@fastgpu/scheduling/plan";
import { newId } from "../new-id.ts";
import { nodesOf } from "../store/attempts.ts";
import type { StoredGpu } from "../store/nodes.ts";
import { askHolds } from "./ask-holds.ts";
import { apply, type CycleContext } from "./context.ts";
import { gpusOf } from "./lease.ts";
import { commitPreemptions } from "./preempt.ts";
import { endSpent } from "./spent.ts";

/**
 * Stops what the plan gives up for others. Nobody loses work for a task that could not pay: a hold of its size is asked
 * for first and given back at once. Answers the tasks that wait for money.
 */
export async function makeRoom(
  c: CycleContext,
  preemptions: readonly Preemption[],
  nowMs: number,
): Promise<ReadonlyMap<TaskId, string>> {
  if (preemptions.length === 0) return new Map();
  const waiting = preemptions.flatMap((each) => c.mirror.waiting.get(each.reservedFor) ?? []);
  const preemptors = new Map(waiting.map((task) => [task.id, task]));
  const blocked = await withoutMoney(c, { preemptors, preemptions, nowMs });
  const wanted = preemptions.filter(
    ({ reservedFor }) => preemptors.has(reservedFor) && !blocked.has(reservedFor),
  );
  if (wanted.length === 0) return blocked;
  const epochs = new Map([...preemptors].map(([id, { epoch }]) => [id, epoch]));
  const at = { leaderEpoch: c.leaderEpoch, nowMs: c.clock.nowMs(), epochs };
  const done = await transaction(c.core, (tx) => commitPreemptions(tx, wanted, at));
  c.figures.counts.preemptions += wanted.length - done.rejected.length;
  c.figures.counts.preemptionsRejected += done.rejected.length;
  const counts = { stopped: done.stopped.length, rejected: done.rejected.length };
  c.log.info(counts, "attempts stopped in favour of others");
  // What was rejected is read again too: the plan saw something that is no longer so.
  await apply(c, {
    tasks: [...new Set(wanted.flatMap((each) => [each.victimTask, each.reservedFor]))],
    nodes: [...new Set([...nodesOf(done.stopped), ...done.beside])],
  });
  return blocked;
}

/** The preemptors whose organisation cannot cover the hold of what they would get. */
async function withoutMoney(
  c: CycleContext,
  of: {
    preemptors: ReadonlyMap<TaskId, PlanTask>;
    preemptions: readonly Preemption[];
    nowMs: number;
  },
): Promise<Map<TaskId, string>> {
  const gpus = gpusOf(c.mirror);
  const asked = Array.from(of.preemptors.values(), (task) => ({
    attempt: newId("att", of.nowMs),
    placement: likelyPlacement(task, of.preemptions, gpus),
  }));
  const { open, blocked, spent } = await askHolds(c, asked, gpus);
  await endSpent(c, spent, of.nowMs);
  if (open.size > 0) await c.holds.void(c.leaderEpoch, [...open.keys()]);
  return blocked;
}

/** As many GPUs as the task wants, of the kinds that are kept for it: what its hold will be of. */
function likelyPlacement(
  task: PlanTask,
  preemptions: readonly Preemption[],
  fleet: ReadonlyMap<GpuId, StoredGpu>,
): Placement {
  const own = preemptions
    .filter(({ reservedFor }) => reservedFor === task.id)
    .flatMap(({ gpus, beside = [] }) => [...gpus, ...beside.flatMap((each) => each.gpus)])
    .flatMap((id) => fleet.get(id) ?? []);
  const wanted = own.length === 0 ? 0 : task.demand.gpuCount * task.replicas;
  const members = Array.from({ length: wanted }, (_, at) => own[at % own.length]!);
  return { task, elements: 1, members: members.map(({ id, node }) => ({ node, gpus: [id] })) };
}
