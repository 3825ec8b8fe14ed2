import {
  takeIndices,
  subtractIndices,
  unionIndices,
  countIndices,
} from "@fastgpu/domain/index-set";
import type { AttemptId, GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { assertLeader } from "@fastgpu/postgres/leader";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Tx } from "@fastgpu/postgres/transaction";
import { gpusOfPlacement, type Placement } from "@fastgpu/scheduling/plan";
import {
  insertLeases,
  lockFreeGpus,
  readReadyNodes,
  storeScheduled,
  type FreeGpu,
  type NewLease,
  type ScheduledTask,
} from "../store/leases.ts";
import { takeOverUnfinished } from "../store/lineages.ts";
import { releaseReservations } from "../store/reservations.ts";
import { lockTasks, type StoredTask } from "../store/tasks.ts";
import { spend, quotasLeft, type QuotasLeft } from "./quotas.ts";
import { taskMoved } from "../transition/events.ts";
import { isInLine } from "../transition/in-line.ts";

/** The name under which the cycle's leader is elected. */
export const cycleLeader = "cycle";

/** A placement whose money is set aside. */
export interface FundedPlacement {
  readonly attempt: AttemptId;
  readonly placement: Placement;
  /** Billable milliseconds that the hold covers; undefined where the attempt costs nothing. */
  readonly fundedMs: number | undefined;
  /** By rank. */
  readonly members: NewLease["members"];
}

/** Opens the span of a lease below a task's trace and answers its trace context. */
export type StartLeaseSpan = (
  traceparent: string,
  attributes: Readonly<Record<string, string>>,
) => string;

/** What became of a cycle's placements. */
export interface Committed {
  readonly leased: readonly FundedPlacement[];
  /** Placements that the present state of the database no longer allows: a normal outcome. */
  readonly rejected: readonly FundedPlacement[];
}

/** Leases of one task under way in a commit. */
interface TaskLeases {
  readonly task: StoredTask;
  epoch: number;
  number: number;
  pending: NonNullable<StoredTask["array"]>["pending"];
  leased: NonNullable<StoredTask["array"]>["leased"];
  last: AttemptId | undefined;
}

/**
 * Writes leases by compare-and-set: the leader's epoch, each task's epoch and state, each GPU's and node's state are
 * checked again under lock, and the limits of its queues (I7). An attempt gets all of its members and all of their
 * GPUs, or none (I6).
 */
export async function commitLeases(
  tx: Tx,
  placements: readonly FundedPlacement[],
  at: { leaderEpoch: bigint; nowMs: number; startLeaseSpan: StartLeaseSpan },
): Promise<Committed> {
  await assertLeader(tx, cycleLeader, at.leaderEpoch);
  const ids = [...new Set(placements.map(({ placement }) => placement.task.id))].toSorted();
  const tasks = new Map((await lockTasks(tx, ids)).map((task) => [task.id, startLeases(task)]));
  const ready = await readReadyNodes(
    tx,
    [...new Set(placements.flatMap(({ placement }) => placement.members.map(({ node }) => node)))],
    at.nowMs,
  );
  const quotas = await quotasLeft(
    tx,
    [...tasks.values()].map(({ task }) => task),
  );
  const free = new Map(
    await lockFreeGpus(
      tx,
      placements.flatMap(({ placement }) => gpusOfPlacement(placement)),
      at.nowMs,
    ),
  );

  const leased: FundedPlacement[] = [];
  const rejected: FundedPlacement[] = [];
  const leases: NewLease[] = [];
  for (const funded of placements) {
    const lease = tryLease(funded, {
      tasks,
      ready,
      quotas,
      free,
      startLeaseSpan: at.startLeaseSpan,
    });
    if (lease === undefined) rejected.push(funded);
    else {
      leases.push(lease);
      leased.push(funded);
    }
  }
  if (leases.length > 0) {
    await insertLeases(tx, leases, at);
    const moved = [...tasks.values()].filter((each) => each.last !== undefined);
    await storeScheduled(tx, moved.map(toScheduled));
    await appendEvents(
      tx,
      moved.flatMap((each) => taskMoved(each.task, toScheduled(each), at.nowMs)),
    );
    await takeOverUnfinished(tx, firstLeases(leased, tasks), at.nowMs);
    const plain = moved.filter(({ task }) => task.array === undefined);
    await releaseReservations(
      tx,
      plain.map(({ task }) => task.id),
    );
  }
  return { leased, rejected };
}

/** Tasks leased for the first time of whose lineage the plan knew something. */
function firstLeases(
  leased: readonly FundedPlacement[],
  tasks: ReadonlyMap<TaskId, TaskLeases>,
): { id: TaskId; lineage: string }[] {
  return leased.flatMap(({ placement }) => {
    const { id, attainedGpuMs, preemptions } = placement.task;
    const { lineage, attemptCount } = tasks.get(id)?.task ?? {};
    const news = attemptCount === 0 && attainedGpuMs + preemptions > 0;
    return news && lineage !== undefined ? [{ id, lineage }] : [];
  });
}

function startLeases(task: StoredTask): TaskLeases {
  return {
    task,
    epoch: task.epoch,
    number: task.attemptCount,
    pending: task.array?.pending ?? [],
    leased: task.array?.leased ?? [],
    last: undefined,
  };
}

function tryLease(
  funded: FundedPlacement,
  state: {
    tasks: ReadonlyMap<TaskId, TaskLeases>;
    ready: ReadonlySet<NodeId>;
    quotas: QuotasLeft;
    free: Map<GpuId, FreeGpu>;
    startLeaseSpan: StartLeaseSpan;
  },
): NewLease | undefined {
  const { placement } = funded;
  const leases = state.tasks.get(placement.task.id);
  if (leases === undefined || !mayLease(leases, placement)) return undefined;
  const { task } = leases;
  if (!mayTake(placement, task, state)) return undefined;
  const elements =
    task.array === undefined ? undefined : takeIndices(leases.pending, placement.elements);
  // What waited of an array may have gone to its leases before this one.
  if (elements !== undefined && countIndices(elements) === 0) return undefined;
  const gpus = gpusOfPlacement(placement);
  const models = gpus.flatMap((id) => state.free.get(id)?.model ?? []);
  if (!spend(state.quotas, task, models)) return undefined;

  for (const gpu of gpus) state.free.delete(gpu);
  leases.epoch += 1;
  leases.number += 1;
  leases.last = funded.attempt;
  if (elements !== undefined) {
    leases.pending = subtractIndices(leases.pending, elements);
    leases.leased = unionIndices(leases.leased, elements);
  }
  return {
    attempt: funded.attempt,
    org: task.org,
    project: task.project,
    task: task.id,
    epoch: leases.epoch,
    number: leases.number,
    cpuMillis: task.demand.cpuMillis,
    memoryMib: task.demand.memoryMib,
    diskMib: task.demand.diskMib,
    stopGraceMs: task.stopGraceMs,
    elements,
    fundedMs: funded.fundedMs,
    members: funded.members,
    traceparent: state.startLeaseSpan(task.traceparent, {
      "fastgpu.task": task.id,
      "fastgpu.attempt": funded.attempt,
      "fastgpu.node": placement.members[0]?.node ?? "",
    }),
    atLease: {
      user: task.user,
      preemptible: task.preemptible,
      priority: task.priority,
      submittedMs: task.submittedMs ?? task.createdMs,
      maxRuntimeMs: task.maxRuntimeMs,
      attainedGpuMs: placement.task.attainedGpuMs,
      preemptions: placement.task.preemptions,
    },
  };
}

/** Whether all members of the task are placed, each on a node that takes work and with GPUs of it that nobody has. */
function mayTake(
  placement: Placement,
  task: StoredTask,
  state: { ready: ReadonlySet<NodeId>; free: ReadonlyMap<GpuId, FreeGpu> },
): boolean {
  const gpus = gpusOfPlacement(placement);
  return (
    placement.members.length === task.replicas &&
    new Set(gpus).size === gpus.length &&
    placement.members.every(
      (place) =>
        state.ready.has(place.node) &&
        place.gpus.length === task.demand.gpuCount &&
        place.gpus.every((id) => {
          const gpu = state.free.get(id);
          return gpu?.node === place.node && (gpu.reservedFor ?? task.id) === task.id;
        }),
    )
  );
}

function mayLease({ task, last }: TaskLeases, placement: Placement): boolean {
  if (!isInLine(task)) return false;
  return task.array !== undefined || (last === undefined && task.epoch === placement.task.epoch);
}

function toScheduled(leases: TaskLeases): ScheduledTask {
  const { task } = leases;
  const state = task.state === "RUNNING" || task.state === "STARTING" ? task.state : "SCHEDULED";
  return {
    id: task.id,
    state,
    epoch: leases.epoch,
    message: "",
    // The filter above keeps only tasks with a lease.
    attempt: leases.last ?? (task.attempt as AttemptId),
    attemptCount: leases.number,
    array:
      task.array === undefined ? undefined : { pending: leases.pending, leased: leases.leased },
  };
}
