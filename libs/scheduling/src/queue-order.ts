import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { decide } from "./order/decide.ts";
import { defaultOrderPolicy, type OrderPolicy } from "./order/policy.ts";
import { OrderQueue } from "./order/queue.ts";
import type { Room } from "./order/room.ts";
import type { ShareNode } from "./order/shares.ts";
import type { PlanLease, PlanNode, PlanQueue, PlanState, PlanTask } from "./plan.ts";

/**
 * The order of the service: the shipped one, but
 * - between queues the share decides, and attained service only where shares are close: nothing is preempted here, so
 *   a queue whose tasks have had much service could never take back what a flood of fresh tasks holds;
 * - priority counts within a project only;
 * - the walk goes on to its end: a shape without room says nothing about other models, or about tasks without GPUs;
 * - there is no aged lane, which needs preemption to be of use.
 */
export const serviceOrderPolicy: OrderPolicy = {
  ...defaultOrderPolicy,
  shareWeightMd: 10_000,
  shareClampMd: 20_000,
  shareSlackGpus: 1,
  priorityMd: 0,
  agedShareMilli: 0,
  blockedGroups: 1e9,
};

/** One waiting task, and what tells tasks with the same needs. */
export interface Ready {
  readonly task: PlanTask;
  readonly shape: number;
}

/** A queue whose limit keeps a task waiting. */
export interface LimitHit {
  readonly of: "project" | "organisation";
  readonly limitGpus: number;
  readonly heldGpus: number;
}

/** The queues as one plan sees them. */
export interface QueueOrder {
  /**
   * Offers places in the order of the queues: `place` is called with the next task, once for each lease of an array,
   * and answers whether it found a place. A shape that found none is not offered again: places are only taken.
   */
  walk(ready: readonly Ready[], now: number, place: (task: PlanTask) => boolean): void;
  /** The limit that a task would pass as things stand, from its project upwards; undefined where it passes none. */
  limit(task: PlanTask): LimitHit | undefined;
}

/** GPUs that one queue may hold, and those it holds. */
interface Quota {
  readonly of: LimitHit["of"];
  readonly limitGpus: number;
  heldGpus: number;
}

/** The queues of a state, with what runs now. */
export function createQueueOrder(state: PlanState): QueueOrder {
  const unit = createUnit(state.nodes);
  const quotas = createQuotas(state);
  const limit = (task: PlanTask): LimitHit | undefined =>
    task.demand.gpuCount === 0
      ? undefined
      : quotas(task).find((quota) => quota.heldGpus + task.demand.gpuCount > quota.limitGpus);
  return {
    limit,
    walk(ready, now, place) {
      const { queue, leaves } = createQueue(state, unit);
      // So that the order of the input decides nothing.
      const sorted = ready.toSorted((a, b) => bySubmit(a.task, b.task));
      const jobs: Ready[] = [];
      for (const each of sorted) {
        addJobs({ queue, leaf: leaves.get(each.task.project)!, unit, now, jobs }, each);
      }
      const full = new Set<number>();
      const room: Room = {
        ...noPreemption,
        capacityMilli: unit.capacityMilli,
        place(slot) {
          const { task, shape } = jobs[slot]!;
          if (full.has(shape) || limit(task) !== undefined) return false;
          if (!place(task)) {
            full.add(shape);
            return false;
          }
          for (const quota of quotas(task)) quota.heldGpus += task.demand.gpuCount;
          return true;
        },
      };
      decide(queue, room, now, { preempt: false, priorityWithinQueue: true });
    },
  };
}

const bySubmit = (a: PlanTask, b: PlanTask): number =>
  a.submittedMs - b.submittedMs || (a.id < b.id ? -1 : 1);

/** What a room is never asked without preemption. */
const noPreemption = {
  freeMilli: () => Number.POSITIVE_INFINITY,
  release: () => undefined,
  restore: () => false,
  victims: () => undefined,
};

/**
 * The measure in which shares are counted: thousandths of a GPU. What has no GPU counts by its part of the fleet's
 * cores, as if all cores were worth all GPUs (the dominant resource of Ghodsi et al., NSDI '11, over two resources).
 */
interface Unit {
  readonly capacityMilli: number;
  readonly gpus: number;
  milliOf(gpus: number, cpuMillis: number): number;
}

function createUnit(nodes: readonly PlanNode[]): Unit {
  let gpus = 0;
  let cpuMillis = 0;
  for (const node of nodes) {
    gpus += node.gpus.length;
    cpuMillis += node.cpuMillis;
  }
  const capacityMilli = gpus > 0 ? gpus * 1000 : cpuMillis;
  const perCpuMilli = cpuMillis === 0 ? 0 : capacityMilli / cpuMillis;
  return {
    capacityMilli,
    gpus,
    milliOf: (count, cpu) =>
      count > 0 ? count * 1000 : Math.min(maxMilli, Math.ceil(cpu * perCpuMilli)),
  };
}

/** Greatest size that the order's columns hold. */
const maxMilli = 2 ** 31 - 1;

/** What runs. */
const ownedLeases = (nodes: readonly PlanNode[]): PlanLease[] =>
  nodes.flatMap((node) => node.running);

/** Finds the limits of a task, its project's first, with the GPUs held now. */
function createQuotas(state: PlanState): (task: PlanTask) => readonly Quota[] {
  const byOwner = new Map<string, Quota>();
  for (const { org, project, limitGpus } of state.queues) {
    if (limitGpus === undefined) continue;
    const of = project === undefined ? "organisation" : "project";
    byOwner.set(project ?? org, { of, limitGpus, heldGpus: 0 });
  }
  const quotas = ({ org, project }: { org: OrgId; project: ProjectId }): readonly Quota[] =>
    byOwner.size === 0
      ? []
      : [byOwner.get(project), byOwner.get(org)].filter((quota) => quota !== undefined);
  for (const lease of ownedLeases(state.nodes)) {
    for (const quota of quotas(lease)) quota.heldGpus += lease.gpus.length;
  }
  return quotas;
}

/** Organisations above projects, with what runs allocated and wanted. */
function createQueue(
  state: PlanState,
  unit: Unit,
): { queue: OrderQueue; leaves: ReadonlyMap<ProjectId, number> } {
  const running = ownedLeases(state.nodes);
  const orgOf = new Map<ProjectId, OrgId>();
  for (const { org, project } of [...running, ...state.tasks]) orgOf.set(project, org);
  const rows = new Map(state.queues.map((row) => [row.project ?? row.org, row]));
  const spare = coresOnly(state, unit);
  const nodes: ShareNode[] = [];
  const roots = new Map<OrgId, number>();
  const leaves = new Map<ProjectId, number>();
  for (const org of [...new Set(orgOf.values())].toSorted()) {
    roots.set(org, nodes.length);
    nodes.push(shareNode(-1, rows.get(org), spare.get(org) ?? 0));
  }
  for (const [project, org] of [...orgOf].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    leaves.set(project, nodes.length);
    nodes.push(shareNode(roots.get(org)!, rows.get(project), spare.get(project) ?? 0));
  }
  const queue = new OrderQueue(serviceOrderPolicy, nodes);
  for (const { project, gpus, cpuMillis } of running) {
    const milli = unit.milliOf(gpus.length, cpuMillis);
    queue.tree.allocate(leaves.get(project)!, milli);
    queue.tree.want(leaves.get(project)!, milli);
  }
  for (const { project, gpus, cpuMillis } of state.behind ?? []) {
    const leaf = leaves.get(project);
    if (leaf === undefined) continue;
    queue.tree.want(leaf, unit.milliOf(0, cpuMillis) + gpus * 1000);
  }
  return { queue, leaves };
}

/** What each queue runs and wants without GPUs: limits are of GPUs, so the tree's limits leave room for it. */
function coresOnly(state: PlanState, unit: Unit): ReadonlyMap<string, number> {
  const sums = new Map<string, number>();
  if (state.queues.every((row) => row.limitGpus === undefined)) return sums;
  const add = (of: { org: OrgId; project: ProjectId }, milli: number): void => {
    sums.set(of.org, (sums.get(of.org) ?? 0) + milli);
    sums.set(of.project, (sums.get(of.project) ?? 0) + milli);
  };
  for (const lease of ownedLeases(state.nodes)) {
    if (lease.gpus.length === 0) add(lease, unit.milliOf(0, lease.cpuMillis));
  }
  for (const task of state.tasks) {
    const { gpuCount, cpuMillis } = task.demand;
    if (gpuCount === 0) add(task, unit.milliOf(0, cpuMillis) * leasesWanted(task));
  }
  for (const wanted of state.behind ?? []) add(wanted, unit.milliOf(0, wanted.cpuMillis));
  return sums;
}

function shareNode(parent: number, row: PlanQueue | undefined, spareMilli: number): ShareNode {
  return {
    parent,
    weight: row?.weight ?? 1,
    guaranteedMilli: (row?.guaranteedGpus ?? 0) * 1000,
    limitMilli:
      row?.limitGpus === undefined ? Number.POSITIVE_INFINITY : row.limitGpus * 1000 + spareMilli,
  };
}

const leasesWanted = ({ array }: PlanTask): number =>
  array === undefined ? 1 : Math.min(array.pending, array.leasesLeft);

/** At most so many leases of one array of tasks without GPUs start in one plan; the rest follows in the next. */
const maxCpuLeases = 1_000;

/** Adds a task, or as many leases of an array as could start at once; the rest only counts as wanted. */
function addJobs(
  to: {
    queue: OrderQueue;
    leaf: number;
    unit: Unit;
    now: number;
    jobs: Ready[];
  },
  ready: Ready,
): void {
  const { queue, leaf, unit, now } = to;
  const { task, shape } = ready;
  const { gpuCount, cpuMillis } = task.demand;
  const gpusMilli = unit.milliOf(gpuCount, cpuMillis);
  const wanted = leasesWanted(task);
  const bound = gpuCount === 0 ? maxCpuLeases : Math.max(1, Math.floor(unit.gpus / gpuCount));
  const count = Math.min(wanted, bound);
  for (let n = 0; n < count; n++) {
    const slot = queue.add(
      {
        leaf,
        shape,
        gpusMilli,
        priority: task.priority,
        submitMs: task.submittedMs,
        attainedGpuMs: task.attainedGpuMs,
        preemptible: false,
        predictedMs: 0,
        tie: to.jobs.length,
      },
      now,
    );
    to.jobs[slot] = ready;
  }
  if (wanted > count) queue.tree.want(leaf, (wanted - count) * gpusMilli);
}
