import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";

/** What one attempt needs of a node. */
export interface Demand {
  readonly runtime: "container" | "process";
  readonly gpuCount: number;
  /** Models that will do, best first; empty: any. */
  readonly gpuModels: readonly string[];
  readonly gpuMinMemoryMib: number;
  readonly simulatedOk: boolean;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
}

/** A GPU as the planner sees it. */
export interface PlanGpu {
  readonly id: GpuId;
  readonly model: string;
  readonly memoryMib: number;
  readonly simulated: boolean;
  /** False where it is leased, unknown, being cleaned or out of use. */
  readonly free: boolean;
}

/** A node as the planner sees it, with what is free on it. */
export interface PlanNode {
  readonly id: NodeId;
  /** Ties between equal nodes go to the lower name. */
  readonly name: string;
  /** False where it is lost or drains. */
  readonly acceptsWork: boolean;
  readonly runtimes: readonly string[];
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly cpuMillisFree: number;
  readonly memoryMibFree: number;
  readonly diskMibFree: number;
  readonly gpus: readonly PlanGpu[];
}

/** A waiting task, or the waiting part of an array. */
export interface PlanTask {
  readonly id: TaskId;
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly epoch: number;
  readonly priority: number;
  readonly submittedMs: number;
  /** Not before this time (the pause before a retry). */
  readonly notBeforeMs: number;
  readonly demand: Demand;
  /** Time between its stop signal and the kill, in milliseconds. */
  readonly stopGraceMs: number;
  readonly excludedGpus: readonly GpuId[];
  /** Trace context of the task, carried through to its leases. */
  readonly traceparent: string;
  /** For an array: elements that wait, and how many more leases may run at once. */
  readonly array: { readonly pending: number; readonly leasesLeft: number } | undefined;
}

/** One snapshot of everything that a plan depends on. */
export interface PlanState {
  readonly nodes: readonly PlanNode[];
  readonly tasks: readonly PlanTask[];
}

/** One lease to make: a task, or `elements` of an array, on one node. */
export interface Placement {
  readonly task: PlanTask;
  readonly node: NodeId;
  readonly gpus: readonly GpuId[];
  /** For an array: number of elements that the lease takes, at most {@link maxElementsPerLease}. */
  readonly elements: number;
}

/** An attempt to stop in favour of a task. */
export interface Preemption {
  readonly victim: AttemptId;
  readonly reservedFor: TaskId;
}

/** Why a task was not placed; the counts are of nodes that failed each check. */
export interface WaitReason {
  readonly reason: "UNSATISFIABLE" | "NO_CAPACITY" | "RETRY_BACKOFF";
  readonly message: string;
}

/** Decisions of one cycle, as data: the service commits them by compare-and-set. */
export interface Plan {
  readonly placements: readonly Placement[];
  readonly preemptions: readonly Preemption[];
  readonly reasons: ReadonlyMap<TaskId, WaitReason>;
}

/** Greatest number of array elements in one lease. */
export const maxElementsPerLease = 1_000;

/** Uniform in [0, 1). Seeded by the caller, so that a plan can be replayed. */
export type Rng = () => number;

/** One thing that a node must satisfy. The same list places a task and explains why it waits. */
interface Check {
  readonly what: string;
  /** Whether the node could pass this when empty. */
  possible(node: PlanNode, demand: Demand): boolean;
  /** Whether it passes now. */
  passes(node: PlanNode, task: PlanTask): boolean;
}

const suitsGpu = (gpu: PlanGpu, demand: Demand): boolean =>
  (demand.simulatedOk || !gpu.simulated) &&
  gpu.memoryMib >= demand.gpuMinMemoryMib &&
  (demand.gpuModels.length === 0 || demand.gpuModels.includes(gpu.model));

const countGpus = (node: PlanNode, test: (gpu: PlanGpu) => boolean): number =>
  node.gpus.reduce((count, gpu) => count + (test(gpu) ? 1 : 0), 0);

const checks: readonly Check[] = [
  {
    what: "not taking work",
    possible: () => true,
    passes: (node) => node.acceptsWork,
  },
  {
    what: "no such runtime",
    possible: (node, demand) => node.runtimes.includes(demand.runtime),
    passes: (node, task) => node.runtimes.includes(task.demand.runtime),
  },
  {
    what: "only simulated GPUs",
    possible: (node, demand) =>
      demand.simulatedOk || countGpus(node, (gpu) => !gpu.simulated) >= demand.gpuCount,
    passes: () => true,
  },
  {
    what: "too few GPUs of the model and memory asked for",
    possible: (node, demand) =>
      countGpus(node, (gpu) => suitsGpu(gpu, { ...demand, simulatedOk: true })) >= demand.gpuCount,
    passes: () => true,
  },
  {
    what: "GPUs busy",
    possible: (node, demand) => countGpus(node, (gpu) => suitsGpu(gpu, demand)) >= demand.gpuCount,
    passes: (node, task) => freeGpus(node, task).length >= task.demand.gpuCount,
  },
  {
    what: "not enough CPU",
    possible: (node, demand) => node.cpuMillis >= demand.cpuMillis,
    passes: (node, task) => node.cpuMillisFree >= task.demand.cpuMillis,
  },
  {
    what: "not enough memory",
    possible: (node, demand) => node.memoryMib >= demand.memoryMib,
    passes: (node, task) => node.memoryMibFree >= task.demand.memoryMib,
  },
  {
    what: "not enough disk",
    possible: (node, demand) => node.diskMib >= demand.diskMib,
    passes: (node, task) => node.diskMibFree >= task.demand.diskMib,
  },
];

/** GPUs of the node that the task may have now, the most preferred models first. */
function freeGpus(node: PlanNode, task: PlanTask): readonly PlanGpu[] {
  if (task.demand.gpuCount === 0) return [];
  const suitable = node.gpus.filter(
    (gpu) => gpu.free && suitsGpu(gpu, task.demand) && !task.excludedGpus.includes(gpu.id),
  );
  const models = task.demand.gpuModels;
  return suitable.toSorted(
    (a, b) => models.indexOf(a.model) - models.indexOf(b.model) || a.memoryMib - b.memoryMib,
  );
}

/**
 * Plans one cycle: pure and synchronous, the same input gives the same plan. Tasks go by priority, then by submit
 * time; each goes to the node where it leaves the fewest free GPUs, then the least free CPU (best fit). What does not
 * fit gets its reason and the next task is tried.
 */
export function plan(state: PlanState, now: number, _rng: Rng): Plan {
  const nodes = state.nodes.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const order = state.tasks.toSorted(
    (a, b) => b.priority - a.priority || a.submittedMs - b.submittedMs || (a.id < b.id ? -1 : 1),
  );
  const placements: Placement[] = [];
  const reasons = new Map<TaskId, WaitReason>();
  for (const task of order) {
    if (task.notBeforeMs > now) {
      reasons.set(task.id, {
        reason: "RETRY_BACKOFF",
        message: "waits out the pause before a retry",
      });
      continue;
    }
    const placed = placeTask(nodes, task, placements);
    if (!placed) reasons.set(task.id, explain(nodes, task));
  }
  return { placements, preemptions: [], reasons };
}

/** Places a task, or as many leases of an array as fit; answers whether anything was placed. */
function placeTask(nodes: PlanNode[], task: PlanTask, placements: Placement[]): boolean {
  let pending = task.array?.pending ?? 1;
  let leases = task.array?.leasesLeft ?? 1;
  let placed = false;
  while (pending > 0 && leases > 0) {
    const at = bestNode(nodes, task);
    const node = nodes[at];
    if (node === undefined) break;
    const gpus = freeGpus(node, task)
      .slice(0, task.demand.gpuCount)
      .map((gpu) => gpu.id);
    const elements = task.array === undefined ? 0 : elementsOfLease(nodes, task, pending, leases);
    placements.push({ task, node: node.id, gpus, elements });
    nodes[at] = take(node, task.demand, gpus);
    pending -= Math.max(elements, 1);
    leases -= 1;
    placed = true;
  }
  return placed;
}

/** Spreads an array's elements over the leases that fit at once, so that no lease drags behind the others. */
function elementsOfLease(
  nodes: readonly PlanNode[],
  task: PlanTask,
  pending: number,
  leasesLeft: number,
): number {
  const fitting = nodes.reduce((sum, node) => sum + leasesThatFit(node, task), 0);
  const lanes = Math.max(1, Math.min(leasesLeft, fitting));
  return Math.min(maxElementsPerLease, Math.ceil(pending / lanes));
}

function leasesThatFit(node: PlanNode, task: PlanTask): number {
  if (!checks.every((check) => check.passes(node, task))) return 0;
  const { demand } = task;
  return Math.min(
    demand.gpuCount === 0
      ? Number.POSITIVE_INFINITY
      : Math.floor(freeGpus(node, task).length / demand.gpuCount),
    Math.floor(node.cpuMillisFree / Math.max(1, demand.cpuMillis)),
    Math.floor(node.memoryMibFree / Math.max(1, demand.memoryMib)),
  );
}

function bestNode(nodes: readonly PlanNode[], task: PlanTask): number {
  let best = -1;
  let bestScore = Number.POSITIVE_INFINITY;
  for (const [at, node] of nodes.entries()) {
    if (!checks.every((check) => check.possible(node, task.demand) && check.passes(node, task))) {
      continue;
    }
    const score = countGpus(node, (gpu) => gpu.free) * 1e9 + node.cpuMillisFree;
    if (score < bestScore) {
      best = at;
      bestScore = score;
    }
  }
  return best;
}

function take(node: PlanNode, demand: Demand, gpus: readonly GpuId[]): PlanNode {
  return {
    ...node,
    cpuMillisFree: node.cpuMillisFree - demand.cpuMillis,
    memoryMibFree: node.memoryMibFree - demand.memoryMib,
    diskMibFree: node.diskMibFree - demand.diskMib,
    gpus: node.gpus.map((gpu) => (gpus.includes(gpu.id) ? { ...gpu, free: false } : gpu)),
  };
}

/** Why a task waits: the first check that each node fails, with the number of nodes. */
export function explain(nodes: readonly PlanNode[], task: PlanTask): WaitReason {
  if (nodes.length === 0) {
    return { reason: "NO_CAPACITY", message: "no worker has joined yet" };
  }
  const counts = new Map<string, number>();
  let possible = false;
  for (const node of nodes) {
    const impossible = checks.find((check) => !check.possible(node, task.demand));
    if (impossible === undefined) possible = true;
    const failed = impossible ?? checks.find((check) => !check.passes(node, task));
    const what = failed?.what ?? "taken in this cycle";
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const list = [...counts].map(([what, count]) => `${count} × ${what}`).join(", ");
  return {
    reason: possible ? "NO_CAPACITY" : "UNSATISFIABLE",
    message: `${nodes.length} node${nodes.length === 1 ? "" : "s"}: ${list}`,
  };
}
