import type { TaskId } from "@fastgpu/domain/ids";
import { milliOfDemand } from "../gpu-part.ts";
import type { NewJob, Slot } from "../order/jobs.ts";
import { OrderQueue } from "../order/queue.ts";
import type { PlanState, PlanTask } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { Attempt } from "./crew.ts";
import { endIfStarted } from "./ends.ts";
import { isBundled, staysOff } from "./places.ts";
import type { Expectations, Expected } from "./expectations.ts";
import { Owners, Party } from "./owners.ts";
import { mayBorrow } from "./reserved.ts";
import { createUnit, type Owner, type Unit } from "./queues.ts";
import { usageTerms } from "./usage.ts";

/** A waiting task, or one lease of an array, as a job of the order. */
export interface Job {
  readonly task: PlanTask;
  /** Jobs of one kind find room in the same places. */
  readonly kind: number;
  /** When it ends at the latest if it starts now; Infinity: not known. */
  readonly endMs: number;
  /** When nine in ten of its like had ended, at most `endMs`. */
  readonly likelyEndMs: number;
  /** When half of its like had ended, at most `endMs`. */
  readonly expectedEndMs: number;
  /** GPUs of all members, in thousandths. */
  readonly gpuMilli: number;
  /** What it counts in the measure of shares. */
  readonly milli: number;
}

/** Everybody who waits and runs, as the order sees it in one plan. */
export interface Line {
  readonly queue: OrderQueue;
  /** By slot: a waiting job … */
  readonly jobs: ReadonlyMap<Slot, Job>;
  /** … or a running attempt that might be stopped. */
  readonly runners: ReadonlyMap<Slot, Attempt>;
  /** Slots of a waiting task: one for each lease of an array. */
  readonly slots: ReadonlyMap<TaskId, readonly Slot[]>;
  readonly attempts: readonly Attempt[];
  /** The leaf that an owner's work waits in. */
  leafOf(owner: Owner): number;
  readonly unit: Unit;
  /** What past service adds to the scores, by leaf. */
  readonly leafMd: Float64Array | undefined;
}

/** At most so many leases of one array start in one plan beyond one for each GPU; the rest follows in the next. */
const maxCpuLeases = 1_000;

const leasesWanted = ({ array }: PlanTask): number =>
  array === undefined ? 1 : Math.min(array.pending, array.leasesLeft);

const bySubmit = (a: PlanTask, b: PlanTask): number =>
  a.submittedMs - b.submittedMs || (a.id < b.id ? -1 : 1);

/** The ranks of a state by task. */
export const ranksById = (ranks: PlanState["ranks"]): ReadonlyMap<TaskId, number> =>
  new Map(ranks?.map(({ id, rankMs }) => [id, rankMs]));

/** Puts a state into the order: `ready` tasks as jobs, attempts that may be stopped as running ones, the rest as sums. */
export function createLine(of: {
  state: PlanState;
  attempts: readonly Attempt[];
  ready: readonly PlanTask[];
  policy: SchedulingPolicy;
  expectations: Expectations;
  /** The state's ranks by task, kept from plan to plan; default: read from it. */
  ranks?: ReadonlyMap<TaskId, number>;
  now: number;
  /** Kept from plan to plan; default: none is known yet. */
  owners?: Owners | undefined;
}): Line {
  const { state, attempts, ready, policy, expectations, now } = of;
  const ranks = of.ranks ?? ranksById(state.ranks);
  const owners = of.owners ?? new Owners();
  const unit = createUnit(state.nodes);
  const milliOf = ({ demand, replicas }: Pick<PlanTask, "demand" | "replicas">): number =>
    unit.milliOf(milliOfDemand(demand) * replicas, demand.cpuMillis * replicas);
  const behind = (state.behind ?? []).flatMap((owner) => [
    { owner, gpus: owner.gpus, milli: Math.round(owner.gpus * 1000) },
    { owner, gpus: 0, milli: unit.milliOf(0, owner.cpuMillis) },
  ]);
  const party = new Party(owners);
  for (const { lease, gpuMilli, cpuMillis } of attempts) {
    party.add(lease, gpuMilli > 0 ? 0 : unit.milliOf(gpuMilli, cpuMillis));
  }
  for (const task of state.tasks) {
    party.add(task, task.demand.gpuCount > 0 ? 0 : milliOf(task) * leasesWanted(task));
  }
  for (const { owner, gpus, milli } of behind) party.add(owner, gpus > 0 ? 0 : milli);
  const tree = party.tree(state.queues);
  const queue = new OrderQueue(policy.order, tree.nodes, false);
  const line = {
    queue,
    jobs: new Map<Slot, Job>(),
    runners: new Map<Slot, Attempt>(),
    slots: new Map<TaskId, Slot[]>(),
  };
  for (const { owner, milli } of behind) queue.tree.want(tree.leafOf(owner), milli);
  const kinds = new Kinds();
  const bundled = state.reservations.filter((each) => isBundled(each) && each.endMs > now);
  // So that the order of the input decides nothing.
  for (const task of ready.toSorted(bySubmit)) {
    const expected = expectations.run(task);
    const gpuMilli = milliOfDemand(task.demand) * task.replicas;
    // It finds room where its like that cannot be stopped does not.
    const borrows = state.reservations.length > 0 && mayBorrow(task, { policy, gpuMilli });
    const held = { owner: task, endMs: endIfStarted(task, now), givesWay: borrows };
    const apart = bundled
      .filter((each) => staysOff(each, held, { reservations: state.reservations, now }))
      .map(({ id }) => id);
    const job = {
      task,
      kind: kinds.of(task, { ...expected, borrows, apart }),
      milli: milliOf(task),
      expected,
    };
    addJobs(line, job, { leaf: tree.leafOf(task), unit, now, rankMs: ranks.get(task.id) });
  }
  for (const attempt of attempts) {
    const leaf = tree.leafOf(attempt.lease);
    const milli = unit.milliOf(attempt.gpuMilli, attempt.cpuMillis);
    if (policy.preemption.enabled && mayBeStopped(attempt)) {
      const rankMs = ranks.get(attempt.lease.task);
      line.runners.set(addRunner(queue, attempt, { leaf, milli, now, rankMs }), attempt);
      continue;
    }
    queue.tree.allocate(leaf, milli);
    queue.tree.want(leaf, milli);
  }
  fillLane(line, unit);
  const leafMd = usageTerms(queue.tree, tree, { usage: state.usage, policy });
  return { ...line, attempts, leafOf: (owner) => tree.leafOf(owner), unit, leafMd };
}

/** Preemption is for GPUs: what holds none is never a victim (nor does it count what it has attained). */
const mayBeStopped = ({ lease, known, gpuMilli }: Attempt): boolean =>
  lease.preemptible && !lease.stopping && known && gpuMilli > 0;

/** When an attempt that runs ends at the latest; what is overdue, or stops, may do so at any moment. */
export function endOf({ lease }: Pick<Attempt, "lease">, now: number): number {
  return lease.stopping ? now : Math.max(now, lease.endsByMs);
}

function addRunner(
  queue: OrderQueue,
  { lease, gpuMilli }: Attempt,
  of: {
    leaf: number;
    milli: number;
    now: number;
    rankMs: number | undefined;
  },
): Slot {
  const { leaf, milli, now, rankMs } = of;
  // In the attempts before this one.
  const ranMs = (1000 * lease.attainedGpuMs) / Math.max(1, gpuMilli);
  const slot = queue.addRunning(
    {
      leaf,
      // No waiting job is of its group.
      shape: -1,
      gpusMilli: milli,
      priority: lease.priority,
      submitMs: lease.submittedMs,
      attainedGpuMs: lease.attainedGpuMs,
      preemptible: true,
      predictedMs: 0,
      tie: 0,
      preemptions: lease.preemptions,
      queuedMs: Math.max(0, lease.heldSinceMs - lease.submittedMs - ranMs),
      rankMs,
    },
    lease.heldSinceMs,
    lease.runningSinceMs ?? now,
  );
  if (lease.savedMs !== undefined) queue.saved(slot, lease.savedMs);
  return slot;
}

/**
 * The aged lane: of what runs and had queued past the threshold before, the oldest, as far as the lane reaches. The
 * state does not tell who entered it by itself; who has queued longest of all is in it until it ends, so that nothing
 * starves.
 */
function fillLane({ queue, runners }: Pick<Line, "queue" | "runners">, unit: Unit): void {
  const { jobs, policy } = queue;
  const aged = [...runners.keys()].filter((slot) => jobs.queuedMs[slot]! >= policy.agedAfterMs);
  let left = (unit.capacityMilli * policy.agedShareMilli) / 1000;
  // Slots are in the order of attempts' ids.
  for (const slot of aged.sort((a, b) => jobs.queuedMs[b]! - jobs.queuedMs[a]! || a - b)) {
    jobs.setLane(slot, true);
    left -= jobs.gpusMilli[slot]!;
    if (left <= 0) return;
  }
}

/** Adds a task, or as many leases of an array as could start at once; the rest only counts as wanted. */
function addJobs(
  line: { queue: OrderQueue; jobs: Map<Slot, Job>; slots: Map<TaskId, Slot[]> },
  of: { task: PlanTask; kind: number; milli: number; expected: Expected },
  on: { leaf: number; unit: Unit; now: number; rankMs: number | undefined },
): void {
  const { queue } = line;
  const { leaf, unit, now, rankMs } = on;
  const { task, kind, milli, expected } = of;
  const gpuMilli = milliOfDemand(task.demand) * task.replicas;
  const wanted = leasesWanted(task);
  const bound =
    gpuMilli === 0
      ? maxCpuLeases
      : Math.min(
          Math.max(1, Math.floor((unit.gpus * 1000) / gpuMilli)),
          Math.max(maxCpuLeases, unit.gpus),
        );
  const count = Math.min(wanted, bound);
  const endMs = endIfStarted(task, now);
  const likelyEndMs = Math.min(endMs, now + expected.p90Ms);
  const expectedEndMs = Math.min(endMs, now + expected.p50Ms);
  const slots: Slot[] = [];
  for (let n = 0; n < count; n++) {
    const place = { leaf, shape: kind, gpusMilli: milli, tie: line.jobs.size, now, rankMs };
    const slot = queue.add(newJob(task, place), now);
    line.jobs.set(slot, { task, kind, endMs, likelyEndMs, expectedEndMs, gpuMilli, milli });
    slots.push(slot);
  }
  line.slots.set(task.id, slots);
  if (wanted > count) queue.tree.want(leaf, (wanted - count) * milli);
}

/** Score without the share term that a task would have in a leaf of a line, which stays as it is. */
export function scoreIn(
  { queue, unit }: Line,
  task: PlanTask,
  of: { readonly leaf: number; readonly now: number; readonly rankMs: number | undefined },
): number {
  const { leaf, now, rankMs } = of;
  const { demand, replicas } = task;
  const gpusMilli = unit.milliOf(milliOfDemand(demand) * replicas, demand.cpuMillis * replicas);
  // No job of the line is of its group.
  const slot = queue.add(newJob(task, { leaf, shape: -1, gpusMilli, tie: 0, now, rankMs }), now);
  const scoreMd = queue.baseScoreMd(slot, now);
  queue.remove(slot);
  return scoreMd;
}

function newJob(
  task: PlanTask,
  of: Pick<NewJob, "leaf" | "shape" | "gpusMilli" | "tie" | "rankMs"> & { readonly now: number },
): NewJob {
  const { now, ...rest } = of;
  return {
    ...rest,
    priority: task.priority,
    submitMs: task.submittedMs,
    attainedGpuMs: task.attainedGpuMs,
    preemptible: task.preemptible,
    predictedMs: 0,
    queuedMs: Math.max(0, now - task.submittedMs - task.heldMs),
    preemptions: task.preemptions,
  };
}

/** Run times of one kind differ by less than a factor of two. */
const runtimeClass = (ms: number): number =>
  Number.isFinite(ms) ? Math.ceil(Math.log2(Math.max(1, ms))) : -1;

/** Numbers tasks by their needs: where one finds no place, none of the same number does. */
class Kinds {
  private readonly byKey = new Map<string, number>();

  of(task: PlanTask, of: Expected & { borrows: boolean; apart: readonly string[] }): number {
    const { p90Ms, borrows, apart } = of;
    let key = needs.get(task);
    if (key === undefined) needs.set(task, (key = needsOf(task)));
    if (p90Ms < task.maxRuntimeMs) key += ` ${runtimeClass(p90Ms)}`;
    if (borrows) key += " borrows";
    // It may not have GPUs that others may.
    if (apart.length > 0) key += ` apart from ${apart.join()}`;
    const known = this.byKey.get(key);
    if (known !== undefined) return known;
    this.byKey.set(key, this.byKey.size);
    return this.byKey.size - 1;
  }
}

/** What tasks need in words: most of them are in line for many plans. */
const needs = new WeakMap<PlanTask, string>();
const demands = new WeakMap<PlanTask["demand"], string>();

function needsOf(task: PlanTask): string {
  const { demand, replicas, topology, maxRuntimeMs, excludedGpus } = task;
  let key = demands.get(demand);
  if (key === undefined) demands.set(demand, (key = JSON.stringify(Object.values(demand))));
  key += `${replicas} ${topology.within} ${topology.spreadOver} ${runtimeClass(maxRuntimeMs)}`;
  // Who may share a GPU with whom depends on the organisation.
  if (demand.part?.kind === "share") key += ` ${task.org}`;
  return excludedGpus.length > 0 ? key + excludedGpus.join() : key;
}
