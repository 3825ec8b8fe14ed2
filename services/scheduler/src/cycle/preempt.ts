import type { AttemptId, GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { assertLeader } from "@fastgpu/postgres/leader";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { Preemption } from "@fastgpu/scheduling/plan";
import { lockAttempts, updateAttempts, type StoredAttempt } from "../store/attempts.ts";
import { lockGpus, storeReservations, type LockedGpu } from "../store/reservations.ts";
import { lockTasks, type StoredTask } from "../store/tasks.ts";
import { isInLine } from "../transition/in-line.ts";
import { stopChanges, stoppableOf, stopTasks } from "../transition/stop.ts";
import { cycleLeader } from "./commit.ts";

/** What became of a cycle's preemptions. */
export interface Preempted {
  readonly stopped: readonly StoredAttempt[];
  /** Nodes of GPUs that are kept beside the victims', or for those of them that move. */
  readonly beside: readonly NodeId[];
  /** Tasks that preempted. */
  readonly preemptors: readonly TaskId[];
  /** Preemptions that the present state of the database no longer allows: a normal outcome. */
  readonly rejected: readonly Preemption[];
}

/** A reservation outlives the victim's grace by this long, for its end to be told and the next plan to come. */
const reserveMarginMs = 60_000;

/**
 * Stops attempts in favour of waiting tasks, by compare-and-set under the leader's epoch: the victims go to STOPPING
 * and their GPUs are kept for the preemptor in one transaction, so that a crash at any point leaves either nothing or
 * everything that the next leader needs. What one task preempts goes together: stopping some of its victims alone
 * would be lost work for nothing.
 */
export async function commitPreemptions(
  tx: Tx,
  preemptions: readonly Preemption[],
  at: { leaderEpoch: bigint; nowMs: number; epochs: ReadonlyMap<TaskId, number> },
): Promise<Preempted> {
  await assertLeader(tx, cycleLeader, at.leaderEpoch);
  const ids = preemptions.flatMap(({ victimTask, reservedFor }) => [victimTask, reservedFor]);
  const tasks = new Map(
    (await lockTasks(tx, [...new Set(ids)].toSorted())).map((task) => [task.id, task]),
  );
  const victims = [...new Set(preemptions.map(({ victim }) => victim))].toSorted();
  const members = Map.groupBy(await lockAttempts(tx, victims), (attempt) => attempt.id);
  const held = await lockGpus(
    tx,
    preemptions.flatMap(({ gpus, beside = [], movesTo }) => [
      ...gpus,
      ...beside.flatMap((each) => each.gpus),
      ...(movesTo?.gpus ?? []),
    ]),
    at.nowMs,
  );
  const taken = new Set<AttemptId>();
  const accepted: Preemption[] = [];
  const rejected: Preemption[] = [];
  for (const [reservedFor, group] of Map.groupBy(preemptions, (each) => each.reservedFor)) {
    const preemptor = tasks.get(reservedFor);
    const allowed =
      stillWaits(preemptor, at.epochs.get(reservedFor)) &&
      group.every((each) => mayStop(each, { tasks, members, held, taken }));
    for (const { victim } of allowed ? group : []) taken.add(victim);
    (allowed ? accepted : rejected).push(...group);
  }
  const stopped = accepted.flatMap(({ victim }) => members.get(victim) ?? []);
  const beside = await stop(tx, accepted, { tasks, members, held, nowMs: at.nowMs });
  const preemptors = accepted.map(({ reservedFor }) => reservedFor);
  return { stopped, beside, preemptors, rejected };
}

/** Whether a task is still in line as the plan saw it. */
function stillWaits(task: StoredTask | undefined, epoch: number | undefined): boolean {
  if (task === undefined || !isInLine(task)) return false;
  return task.array !== undefined || task.epoch === epoch;
}

/** Whether an attempt can be stopped: every member runs and was not told to stop, and its GPUs wait for nobody. */
function mayStop(
  { victim, victimTask, reservedFor, gpus, movesTo }: Preemption,
  state: {
    tasks: ReadonlyMap<TaskId, StoredTask>;
    members: ReadonlyMap<AttemptId, readonly StoredAttempt[]>;
    held: ReadonlyMap<GpuId, LockedGpu>;
    taken: ReadonlySet<AttemptId>;
  },
): boolean {
  const { tasks, members, held, taken } = state;
  const attempts = members.get(victim) ?? [];
  const task = tasks.get(victimTask);
  if (task === undefined || task.cancelRequested || victimTask === reservedFor) return false;
  if (attempts.length === 0 || taken.has(victim)) return false;
  const stoppable =
    stoppableOf(attempts).length === attempts.length &&
    attempts.every(
      (attempt) =>
        attempt.task === victimTask &&
        attempt.atLease.preemptible &&
        attempt.stopClass === undefined,
    );
  // Whoever is to go on elsewhere is not stopped where that place is gone.
  const isFree = (gpu: GpuId): boolean =>
    held.get(gpu)?.attempt === undefined && held.get(gpu)?.reserved === false;
  return (
    stoppable &&
    gpus.every((gpu) => held.get(gpu)?.attempt === victim && held.get(gpu)?.reserved === false) &&
    (movesTo?.gpus ?? []).every(isFree)
  );
}

async function stop(
  tx: Tx,
  accepted: readonly Preemption[],
  of: {
    tasks: ReadonlyMap<TaskId, StoredTask>;
    members: ReadonlyMap<AttemptId, readonly StoredAttempt[]>;
    held: ReadonlyMap<GpuId, LockedGpu>;
    nowMs: number;
  },
): Promise<readonly NodeId[]> {
  const { tasks, members, held, nowMs } = of;
  const messages = new Map(accepted.map((each) => [each.victim, inFavour(each, tasks)]));
  const stopped = accepted.flatMap(({ victim }) => members.get(victim) ?? []);
  await updateAttempts(
    tx,
    stopChanges(stopped, "preempted", nowMs).map((change) => ({
      ...change,
      message: messages.get(change.id) ?? "",
    })),
  );
  const stops = accepted.flatMap(({ victim, victimTask }) => {
    const task = tasks.get(victimTask);
    return task === undefined ? [] : [{ task, message: messages.get(victim) ?? "" }];
  });
  await stopTasks(tx, stops, nowMs);
  const untilMs = new Map<TaskId, number>();
  for (const { victim, victimTask, reservedFor, movesTo } of accepted) {
    const graceMs = Math.max(...(members.get(victim) ?? []).map((each) => each.stopGraceMs));
    const until = nowMs + graceMs + reserveMarginMs;
    for (const task of movesTo === undefined ? [reservedFor] : [reservedFor, victimTask]) {
      untilMs.set(task, Math.max(until, untilMs.get(task) ?? 0));
    }
  }
  // What else the place needs is kept as far as it is there: the plan finds another one where it is not.
  const beside = accepted.flatMap(({ reservedFor, beside: places = [] }) =>
    places
      .flatMap(({ gpus }) => gpus)
      .filter((gpu) => held.get(gpu)?.reserved === false)
      .map((gpu) => ({ gpu, task: reservedFor })),
  );
  const freed = accepted.flatMap(({ reservedFor, gpus }) =>
    gpus.map((gpu) => ({ gpu, task: reservedFor })),
  );
  const elsewhere = accepted.flatMap(({ victimTask, movesTo }) =>
    (movesTo?.gpus ?? []).map((gpu) => ({ gpu, task: victimTask })),
  );
  await storeReservations(
    tx,
    [...freed, ...beside, ...elsewhere].map((each) => ({
      ...each,
      untilMs: untilMs.get(each.task)!,
    })),
  );
  return [...new Set([...beside, ...elsewhere].flatMap(({ gpu }) => held.get(gpu)?.node ?? []))];
}

/** In favour of whom, for the victim's owner: no other tenant is named. */
function inFavour(
  { victimTask, reservedFor, movesTo }: Preemption,
  tasks: ReadonlyMap<TaskId, StoredTask>,
): string {
  const victim = tasks.get(victimTask);
  const preemptor = tasks.get(reservedFor);
  const whom =
    preemptor?.project === victim?.project
      ? reservedFor
      : preemptor?.org === victim?.org
        ? "a task of another project"
        : "a task of another organisation";
  if (movesTo !== undefined) {
    return `moved to make room for ${whom}: it goes on from its checkpoint on other GPUs`;
  }
  return `stopped in favour of ${whom}: it queues again and goes on from its checkpoint`;
}
