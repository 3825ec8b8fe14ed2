import type { PredictionError } from "@fastgpu/scheduling/order/predict";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { wideGpus } from "../queueing/summary.ts";
import type { FleetFault } from "./faults.ts";
import type { Named } from "./names.ts";
import { costNanos, type Prices } from "./prices.ts";
import type { TenantRecord } from "./record.ts";
import type { FleetSettings } from "./settings.ts";
import type { FleetSimulation } from "./simulation.ts";
import { distribution, fairShares, jain, mean, type Distribution } from "./statistics.ts";
import type { TaskRun } from "./task-run.ts";

/** How one tenant fared. Times in milliseconds, GPU time in hours, money in nano-USD as decimal digits. */
export interface TenantReport {
  readonly tenant: string;
  readonly weight: number;
  readonly tasks: number;
  readonly ended: number;
  readonly waiting: Distribution;
  readonly meanSlowdown: number;
  readonly gpuHours: number;
  /** Mean of its GPUs over what it was due, while it wanted any; 1: exactly its share. */
  readonly shareOfDue: number;
  readonly costNanos: string;
  /** Refunded: work lost to faults of the hardware. */
  readonly creditNanos: string;
}

/** The fleet over time, as means of buckets of equal width from the start on. */
export interface FleetSeries {
  readonly startMs: number;
  readonly bucketMs: number;
  /** GPUs in service. */
  readonly capacity: readonly number[];
  readonly allocated: readonly number[];
  /** Those whose work counts: without starts, restores and lost work. */
  readonly useful: readonly number[];
  readonly waitingTasks: readonly number[];
  readonly waitingGpus: readonly number[];
  /** Jain's index of held over due, over the tenants that want any. */
  readonly fairness: readonly number[];
  /** GPUs free on nodes partly taken, over those in service. */
  readonly fragmentation: readonly number[];
  /** GPUs held by each of the largest tenants, and what each was due. */
  readonly tenants: readonly {
    readonly tenant: string;
    readonly held: readonly number[];
    readonly due: readonly number[];
  }[];
}

/** What a run gave. Everything in it is simulated. */
export interface FleetReport {
  readonly simulated: true;
  readonly title: string;
  readonly seed: number;
  readonly policyName: string;
  readonly policy: SchedulingPolicy;
  readonly settings: FleetSettings;
  readonly fleet: {
    readonly nodes: number;
    readonly gpus: number;
    readonly models: Readonly<Record<string, number>>;
  };
  readonly workload: {
    readonly name: string;
    readonly tasks: number;
    readonly notes: readonly string[];
  };
  readonly startMs: number;
  readonly endMs: number;
  readonly tasks: {
    readonly succeeded: number;
    readonly failed: number;
    /** Neither ended nor running at the end of the run, by the reason of the last plan. */
    readonly waiting: Readonly<Record<string, number>>;
    readonly running: number;
    /** Never arrived before the run was cut off. */
    readonly toCome: number;
  };
  /** From submit to the first lease; of a task that never got one, to the end of the run. */
  readonly waiting: Distribution;
  /** From submit to the end, of tasks that ended. */
  readonly turnaround: Distribution;
  /** The same of wide tasks alone (8 GPUs and more, as in the queue replays). */
  readonly wideTurnaround: Distribution;
  /** From submit to the end beyond the run time, of tasks that ended: all waits, starts and restores together. */
  readonly delay: Distribution;
  readonly byWidth: readonly { readonly width: string; readonly waiting: Distribution }[];
  /** Mean of (end − submit) / run time, a run time below a minute counted as one ("bounded slowdown"). */
  readonly meanSlowdown: number;
  readonly fairness: {
    /** Mean slowdown of the worst tenant over that of the best. */
    readonly slowdownRatio: number;
    /** Jain's index of held over due, weighted by time over the buckets in which anybody wanted GPUs. */
    readonly meanIndex: number;
  };
  /** Parts of the GPU time in service, 0 to 1. */
  readonly utilisation: { readonly allocated: number; readonly useful: number };
  /** GPU-hours: where the allocated time went. */
  readonly gpuHours: {
    readonly useful: number;
    readonly starting: number;
    readonly restoring: number;
    readonly lost: number;
    readonly stopping: number;
    readonly dead: number;
  };
  readonly meanFragmentation: number;
  readonly preemptions: { readonly count: number; readonly gpuHours: number };
  /** How good the run times were that backfill expected. */
  readonly predictions: PredictionError;
  readonly faults: Readonly<Record<FleetFault["kind"], number>>;
  /** Attempts by the class of their end. */
  readonly ends: Readonly<Record<string, number>>;
  readonly tenants: readonly TenantReport[];
  readonly costNanos: string;
  readonly plans: number;
  readonly leases: number;
  readonly series: FleetSeries;
}

const hourMs = 3_600_000;
const slowdownBoundMs = 60_000;
/** A tenant with fewer ended tasks is left out of the ratio: the mean of three says nothing. */
const leastTenantTasks = 20;
/** Tenants whose share is drawn over time. */
const plottedTenants = 6;

/** Sums a run up. */
export function reportOf(
  sim: FleetSimulation,
  about: { title: string; policyName: string; named: Named; prices: Prices },
): FleetReport {
  sim.close();
  const { record, options, tasks, nowMs: endMs } = sim;
  const { named, prices } = about;
  const arrived = tasks.filter((task) => task.arrived);
  const series = seriesOf(sim, named);
  const capacityMs = record.capacity.total(endMs);
  const byTenant = Map.groupBy(arrived, (task) => task.tenant);
  const tenants = record.tenants.map((tenant, at) =>
    tenantReport(tenant, {
      tasks: byTenant.get(at) ?? [],
      weight: named.weights[at]!,
      dueMs: series.dueMs[at]!,
      heldMs: series.heldMs[at]!,
      prices,
      endMs,
    }),
  );
  const counted = tenants.filter(({ ended }) => ended >= leastTenantTasks);
  const slowdowns = (counted.length > 0 ? counted : tenants.filter(({ ended }) => ended > 0)).map(
    ({ meanSlowdown }) => meanSlowdown,
  );
  const { time } = record;
  const hours = (gpuMs: number): number => gpuMs / hourMs;
  return {
    simulated: true,
    title: about.title,
    seed: options.seed,
    policyName: about.policyName,
    policy: options.policy,
    settings: options.settings,
    fleet: fleetOf(sim),
    workload: { name: options.workload.name, tasks: tasks.length, notes: options.workload.notes },
    startMs: record.startMs,
    endMs,
    tasks: stateCounts(sim),
    waiting: distribution(arrived.map((task) => waitOf(task, endMs))),
    turnaround: distribution(ended(arrived).map(tookMs)),
    wideTurnaround: distribution(ended(arrived.filter(({ gpus }) => gpus >= wideGpus)).map(tookMs)),
    delay: distribution(ended(arrived).map((task) => tookMs(task) - leastMs(task))),
    byWidth: byWidth(arrived, endMs),
    meanSlowdown: mean(ended(arrived).map(slowdown)),
    fairness: {
      slowdownRatio: slowdowns.length === 0 ? 1 : Math.max(...slowdowns) / Math.min(...slowdowns),
      meanIndex: series.meanIndex,
    },
    utilisation: {
      allocated: ratio(record.allocated.total(endMs), capacityMs),
      useful: ratio(time.useful, capacityMs),
    },
    gpuHours: {
      useful: hours(time.useful),
      starting: hours(time.starting),
      restoring: hours(time.restoring),
      lost: hours(time.lost),
      stopping: hours(time.stopping),
      dead: hours(time.dead),
    },
    meanFragmentation: ratio(record.stranded.total(endMs), capacityMs),
    preemptions: { count: record.preemptions, gpuHours: hours(record.preemptionGpuMs) },
    predictions: sim.runTimes.error(),
    faults: countFaults(options.faults, endMs),
    ends: Object.fromEntries([...record.ends].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    tenants,
    costNanos: String(tenants.reduce((sum, tenant) => sum + BigInt(tenant.costNanos), 0n)),
    plans: record.plans,
    leases: record.leases,
    series: series.shown,
  };
}

const ended = (tasks: readonly TaskRun[]): readonly TaskRun[] =>
  tasks.filter((task) => task.endMs !== undefined);

const waitOf = (task: TaskRun, endMs: number): number =>
  Math.min(task.firstLeaseMs ?? endMs, task.endMs ?? endMs) - task.spec.atMs;

/** From submit to end, of a task that has ended. */
const tookMs = ({ endMs, spec }: TaskRun): number => endMs! - spec.atMs;

/** Run time of a task that never waits. */
function leastMs({ spec: { array, runMs } }: TaskRun): number {
  return array === undefined ? runMs : runMs * Math.ceil(array.elements / array.parallelism);
}

const slowdown = (task: TaskRun): number =>
  Math.max(1, tookMs(task) / Math.max(slowdownBoundMs, leastMs(task)));

const ratio = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);

function fleetOf({ options }: FleetSimulation): FleetReport["fleet"] {
  const models: Record<string, number> = {};
  let gpus = 0;
  for (const node of options.nodes) {
    if (node.gpus === 0) continue;
    gpus += node.gpus;
    models[node.model] = (models[node.model] ?? 0) + node.gpus;
  }
  return { nodes: options.nodes.length, gpus, models };
}

function stateCounts({ tasks, reasons, waiting }: FleetSimulation): FleetReport["tasks"] {
  const byReason: Record<string, number> = {};
  for (const id of waiting.keys()) {
    const reason = reasons.get(id)?.reason ?? "NO_CAPACITY";
    byReason[reason] = (byReason[reason] ?? 0) + 1;
  }
  return {
    succeeded: tasks.filter(({ outcome }) => outcome === "succeeded").length,
    failed: tasks.filter(({ outcome }) => outcome === "failed").length,
    waiting: byReason,
    running: tasks.filter(({ endMs, attempts }) => endMs === undefined && attempts.size > 0).length,
    toCome: tasks.filter(({ arrived }) => !arrived).length,
  };
}

/** Width classes by the GPUs that a task holds when it runs. */
const widths: readonly (readonly [name: string, most: number])[] = [
  ["no GPU", 0],
  ["part of a GPU", 0.999],
  ["1 GPU", 1],
  ["2–4 GPUs", 4],
  ["5–8 GPUs", 8],
  ["9–32 GPUs", 32],
  ["over 32 GPUs", Number.POSITIVE_INFINITY],
];

function byWidth(tasks: readonly TaskRun[], endMs: number): FleetReport["byWidth"] {
  const classes = Map.groupBy(tasks, ({ gpus }) => widths.findIndex(([, most]) => gpus <= most));
  return widths.flatMap(([width], at) => {
    const own = classes.get(at);
    if (own === undefined) return [];
    return [{ width, waiting: distribution(own.map((task) => waitOf(task, endMs))) }];
  });
}

function countFaults(faults: readonly FleetFault[], endMs: number): FleetReport["faults"] {
  const counts = { node_loss: 0, gpu_fault: 0, disconnect: 0, drain: 0 };
  for (const { kind, atMs } of faults) if (atMs <= endMs) counts[kind]++;
  return counts;
}

function tenantReport(
  record: TenantRecord,
  of: {
    tasks: readonly TaskRun[];
    weight: number;
    dueMs: number;
    heldMs: number;
    prices: Prices;
    endMs: number;
  },
): TenantReport {
  const { tasks, prices, endMs } = of;
  const cost = costNanos(record.billedGpuMs, prices) - costNanos(record.creditedGpuMs, prices);
  return {
    tenant: record.name,
    weight: of.weight,
    tasks: tasks.length,
    ended: ended(tasks).length,
    waiting: distribution(tasks.map((task) => waitOf(task, endMs))),
    meanSlowdown: mean(ended(tasks).map(slowdown)),
    gpuHours: record.allocated.total(endMs) / hourMs,
    shareOfDue: of.dueMs > 0 ? of.heldMs / of.dueMs : 1,
    costNanos: String(cost),
    creditNanos: String(costNanos(record.creditedGpuMs, prices)),
  };
}

/** The series of a run, and each tenant's held and due GPU time over the buckets in which it wanted any. */
function seriesOf(sim: FleetSimulation, named: Named) {
  const { record, nowMs: endMs } = sim;
  const capacity = record.capacity.means(endMs);
  const held = record.tenants.map((tenant) => tenant.allocated.means(endMs));
  const waits = record.tenants.map((tenant) => tenant.waitingGpus.means(endMs));
  const due = record.tenants.map((): number[] => []);
  const dueMs = record.tenants.map(() => 0);
  const heldMs = record.tenants.map(() => 0);
  const fairness = capacity.map((total, bucket) => {
    const wants = record.tenants.map((_, at) => ({
      wanted: held[at]![bucket]! + waits[at]![bucket]!,
      weight: named.weights[at]!,
    }));
    const met: number[] = [];
    for (const [at, share] of fairShares(wants, total).entries()) {
      due[at]!.push(share);
      if (wants[at]!.wanted <= 1e-9 || share <= 1e-9) continue;
      dueMs[at]! += share;
      heldMs[at]! += held[at]![bucket]!;
      met.push(Math.min(1, held[at]![bucket]! / share));
    }
    return { index: jain(met), wanted: met.length > 0 };
  });
  const largest = [...record.tenants.keys()]
    .toSorted((a, b) => dueMs[b]! - dueMs[a]! || a - b)
    .slice(0, plottedTenants)
    .toSorted((a, b) => a - b);
  const stranded = record.stranded.means(endMs);
  const shown: FleetSeries = {
    startMs: record.startMs,
    bucketMs: record.bucketMs,
    capacity,
    allocated: record.allocated.means(endMs),
    useful: record.useful.means(endMs),
    waitingTasks: record.waitingTasks.means(endMs),
    waitingGpus: record.waitingGpus.means(endMs),
    fairness: fairness.map(({ index }) => index),
    fragmentation: stranded.map((gpus, bucket) => ratio(gpus, capacity[bucket]!)),
    tenants: largest.map((at) => ({
      tenant: record.tenants[at]!.name,
      held: held[at]!,
      due: due[at]!,
    })),
  };
  const meanIndex = mean(fairness.filter(({ wanted }) => wanted).map(({ index }) => index));
  return { shown, dueMs, heldMs, meanIndex: fairness.some(({ wanted }) => wanted) ? meanIndex : 1 };
}
