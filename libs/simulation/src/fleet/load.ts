import { milliOfDemand } from "@fastgpu/scheduling/gpu-part";
import { migProfiles, type MigGeometryName } from "@fastgpu/scheduling/placement/mig";
import type { GpuPart } from "@fastgpu/scheduling/plan";
import { seededRandom } from "../openb/seeded.ts";
import type { SpecProblem } from "./inventory.ts";
import {
  plainDemand,
  plainFleetTask,
  type FleetQueue,
  type FleetTask,
  type FleetWorkload,
} from "./workload.ts";

/** A made-up load. */
export interface LoadOptions {
  readonly tasks: number;
  /** Weight of each tenant; their number is that of the tenants. */
  readonly weights: readonly number[];
  /** Mean GPU demand over the GPUs of the fleet: 1 fills it exactly, more never catches up. */
  readonly load: number;
  /** GPUs of the fleet, which `load` is measured by, and of its largest node. */
  readonly fleetGpus: number;
  readonly gpusPerNode: number;
  /** How far arrivals swing over a day, 0 (not at all) to 1 (none at night). */
  readonly diurnal: number;
  /** Median run time, in milliseconds; the tail is heavy (log-normal, σ = 1.5). */
  readonly medianMs: number;
  /** Thousandths of the tasks that are gangs of several nodes, arrays, and can be preempted. */
  readonly gangMilli: number;
  readonly arrayMilli: number;
  readonly preemptibleMilli: number;
  /** Thousandths that fail by their own fault at half their run time. */
  readonly failingMilli: number;
  /** Thousandths of the tasks of one GPU that take a share of one, and those that take a MIG instance. */
  readonly sharesMilli: number;
  readonly instancesMilli: number;
  /** How GPUs in MIG mode are divided; undefined: there are none, and so no instances. */
  readonly geometry?: MigGeometryName | undefined;
  /**
   * Users of each tenant, each with run times of its own kind: their medians spread by σ = 1.33, the runs around them by
   * σ = 0.7. 0: three users, and run times that have nothing to do with them.
   */
  readonly habits: number;
  /** Least longest run time that everybody states, in milliseconds; 0: some round time above twice the true one. */
  readonly limitMs: number;
  readonly seed: number;
}

/** Four tenants of equal weight that want 95 % of the fleet. */
export const usualLoad: Omit<LoadOptions, "fleetGpus" | "gpusPerNode" | "seed"> = {
  tasks: 10_000,
  weights: [1, 1, 1, 1],
  load: 0.95,
  diurnal: 0.5,
  medianMs: 900_000,
  gangMilli: 15,
  arrayMilli: 5,
  preemptibleMilli: 700,
  failingMilli: 30,
  sharesMilli: 0,
  instancesMilli: 0,
  habits: 0,
  limitMs: 0,
};

/** GPUs of a task within a node, and how often, in thousandths. */
const sizes: readonly (readonly [gpus: number, milli: number])[] = [
  [0, 60],
  [1, 640],
  [2, 110],
  [4, 100],
  [8, 90],
];
const sigma = 1.5;
/** Of the runs of one user, where users have habits; with the spread of their medians it makes `sigma`. */
const habitSigma = 0.7;
const spreadSigma = Math.sqrt(sigma ** 2 - habitSigma ** 2);
const longestMs = 7 * 86_400_000;
const dayMs = 86_400_000;
const maxArrayElements = 200;
/** Limits of run time as people choose them: round ones. */
const limits = [1, 4, 12, 24, 72, 168, 336, 720].map((hours) => hours * 3_600_000);

/**
 * Draws a load: Poisson arrivals with a swing over the day, sizes as clusters have them, run times with a heavy tail. All
 * tenants ask for the same, so that their weights alone tell them apart. The rate is set so that the drawn work is `load`
 * times what the fleet could do in the time over which it arrives.
 */
export function drawLoad(options: LoadOptions): FleetWorkload {
  const random = seededRandom(options.seed ^ 0x51ed270b);
  const habits = drawHabits(options);
  const drawn = Array.from({ length: options.tasks }, (_, at) =>
    drawTask(options, { at, random, habits }),
  );
  const workGpuMs = drawn.reduce((sum, task) => sum + workOf(task), 0);
  const spanMs = Math.max(1, workGpuMs / Math.max(1, options.load * options.fleetGpus));
  const times = arrivals(drawn.length, { spanMs, diurnal: options.diurnal, random });
  const tasks = drawn.map((task, at) => ({ ...task, atMs: times[at]! }));
  const queues = options.weights.map((weight, tenant): FleetQueue => ({
    org: tenantName(tenant),
    weight,
  }));
  return { name: `synthetic ${options.tasks}`, tasks, queues, reservations: [], notes: [] };
}

const tenantName = (tenant: number): string =>
  `tenant-${String.fromCharCode(97 + (tenant % 26))}${tenant < 26 ? "" : Math.floor(tenant / 26)}`;

const workOf = ({ runMs, demand, replicas, array }: FleetTask): number =>
  (runMs * milliOfDemand(demand) * replicas * (array?.elements ?? 1)) / 1000;

/** Median run times of the users of each tenant; empty: they have none of their own. */
function drawHabits({ habits, weights, medianMs, seed }: LoadOptions): readonly number[][] {
  const random = seededRandom(seed ^ 0x2f6e2b1);
  return weights.map(() =>
    Array.from({ length: habits }, () => medianMs * Math.exp(spreadSigma * normalOf(random))),
  );
}

/** Box and Muller. */
const normalOf = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());

function drawTask(
  options: LoadOptions,
  of: { at: number; random: () => number; habits: readonly number[][] },
): FleetTask {
  const { at, random, habits } = of;
  const tenant = Math.floor(random() * options.weights.length);
  const milli = (): number => random() * 1000;
  const own = habits[tenant]!;
  const user = own.length === 0 ? at % 3 : Math.floor(random() * own.length);
  const normal = normalOf(random);
  const typicalMs =
    own.length === 0
      ? options.medianMs * Math.exp(sigma * normal)
      : own[user]! * Math.exp(habitSigma * normal);
  const runMs = Math.round(Math.min(longestMs, Math.max(5_000, typicalMs)));
  const gang = milli() < options.gangMilli;
  const gpuCount = gang
    ? options.gpusPerNode
    : Math.min(options.gpusPerNode, pickOf(sizes, milli()));
  const replicas = gang ? 2 + Math.floor(random() * 3) : 1;
  const array =
    !gang && milli() < options.arrayMilli
      ? { elements: 2 + Math.floor(random() * (maxArrayElements - 2)), parallelism: 16 }
      : undefined;
  const failing = milli() < options.failingMilli;
  const part = gang || gpuCount !== 1 ? undefined : drawPart(options, milli);
  return {
    ...plainFleetTask,
    name: "",
    org: tenantName(tenant),
    project: `${tenantName(tenant)}-main`,
    user: `user-${user}`,
    demand: part === undefined ? demandOf(gpuCount) : partDemandOf(part),
    replicas,
    array,
    // Elements of an array are short, or one array would be all the load.
    runMs: array === undefined ? runMs : Math.max(5_000, Math.round(runMs / 20)),
    maxRuntimeMs:
      limits.find((limitMs) => limitMs >= Math.max(options.limitMs, 2 * runMs + 600_000)) ??
      Infinity,
    preemptible: array === undefined && milli() < options.preemptibleMilli,
    failure: failing
      ? { class: "user_exit", afterMs: Math.max(1, Math.floor(runMs / 2)), times: 1 }
      : undefined,
  };
}

const demands = new Map<number, FleetTask["demand"]>();

function demandOf(gpuCount: number): FleetTask["demand"] {
  let demand = demands.get(gpuCount);
  if (demand === undefined) {
    const cpuMillis = Math.max(1, gpuCount) * 4_000;
    const memoryMib = Math.max(1, gpuCount) * 16_384;
    demand = { ...plainDemand, gpuCount, cpuMillis, memoryMib };
    demands.set(gpuCount, demand);
  }
  return demand;
}

/** Sizes of shares in thousandths of a GPU, and how often, in thousandths. */
const shareSizes: readonly (readonly [milli: number, often: number])[] = [
  [100, 250],
  [250, 300],
  [500, 350],
  [800, 100],
];
/** Profiles by their place in a geometry's list, and how often. */
const instanceSizes: readonly (readonly [profile: number, often: number])[] = [
  [0, 450],
  [2, 300],
  [3, 250],
];

/** The part of a GPU that a task of one GPU takes; nothing is drawn where none do. */
function drawPart(options: LoadOptions, milli: () => number): GpuPart | undefined {
  const { sharesMilli, instancesMilli, geometry } = options;
  if (sharesMilli + instancesMilli === 0) return undefined;
  const drawn = milli();
  if (drawn < sharesMilli) {
    return { kind: "share", milli: pickOf(shareSizes, milli()), weakest: "timeslice" };
  }
  if (drawn >= sharesMilli + instancesMilli) return undefined;
  const profiles = [...migProfiles.values()].filter((each) => each.geometry === geometry);
  const profile = profiles[pickOf(instanceSizes, milli())];
  return profile === undefined ? undefined : { kind: "mig", profile: profile.id };
}

function pickOf(
  list: readonly (readonly [value: number, often: number])[],
  uniformMilli: number,
): number {
  let left = uniformMilli;
  for (const [value, often] of list) {
    left -= often;
    if (left < 0) return value;
  }
  return list[0]![0];
}

/** A share has memory like its compute, of a small GPU. */
const memoryMibPerMilli = 12;
const partDemands = new Map<string, FleetTask["demand"]>();

function partDemandOf(part: GpuPart): FleetTask["demand"] {
  const key = part.kind === "mig" ? part.profile : String(part.milli);
  let demand = partDemands.get(key);
  if (demand === undefined) {
    const gpuMinMemoryMib = part.kind === "share" ? part.milli * memoryMibPerMilli : 0;
    demand = { ...plainDemand, cpuMillis: 2_000, memoryMib: 8_192, gpuMinMemoryMib, part };
    partDemands.set(key, demand);
  }
  return demand;
}

/** Times of a Poisson process whose rate swings over the day, by thinning, scaled to end with the span. */
function arrivals(
  count: number,
  of: { spanMs: number; diurnal: number; random: () => number },
): readonly number[] {
  const { spanMs, diurnal, random } = of;
  const meanGapMs = spanMs / Math.max(1, count);
  const times: number[] = [];
  for (let atMs = 0; times.length < count;) {
    atMs += (-Math.log(1 - random()) * meanGapMs) / (1 + diurnal);
    const rate = (1 + diurnal * Math.sin((2 * Math.PI * atMs) / dayMs)) / (1 + diurnal);
    if (random() < rate) times.push(Math.round(atMs));
  }
  return times;
}

/** Options that a spec may set, with their bounds. */
const numbers = {
  tasks: [1, 10_000_000],
  load: [0.01, 100],
  diurnal: [0, 1],
  gangs: [0, 1],
  arrays: [0, 1],
  preemptible: [0, 1],
  failing: [0, 1],
  shares: [0, 1],
  instances: [0, 1],
  "median-minutes": [0.1, 100_000],
  habits: [0, 1_000],
  "limit-hours": [0, 720],
} as const satisfies Record<string, readonly [number, number]>;
type NumberKey = keyof typeof numbers;

/**
 * Parses a load like `tasks=10000,tenants=2,weights=1:3,load=1.2`: keys are tasks, tenants, weights, load (wanted over
 * existing GPUs), diurnal, gangs, arrays, preemptible, failing, shares and instances (parts from 0 to 1; the last two of
 * the tasks of one GPU), median-minutes, habits (users of each tenant with run times of their own) and limit-hours
 * (least longest run time that everybody states).
 */
export function parseLoad(
  spec: string,
):
  | { readonly kind: "ok"; readonly load: Omit<LoadOptions, "fleetGpus" | "gpusPerNode" | "seed"> }
  | SpecProblem {
  const given = new Map<NumberKey, number>();
  let weights: readonly number[] = usualLoad.weights;
  for (const part of spec.split(",").filter((text) => text.trim() !== "")) {
    const [key = "", value = ""] = part.split("=").map((text) => text.trim());
    if (key === "weights" || key === "tenants") {
      const list = key === "weights" ? value.split(":").map(Number) : tenantsOf(Number(value));
      if (
        list.length === 0 ||
        list.length > 1_000 ||
        list.some((one) => !(Number.isInteger(one) && one >= 1))
      ) {
        return {
          kind: "bad",
          problem: `"${part.trim()}": weights are whole numbers from 1, like 1:3`,
        };
      }
      weights = list;
      continue;
    }
    if (!isNumberKey(key)) {
      const known = ["tenants", "weights", ...Object.keys(numbers)].join(", ");
      return { kind: "bad", problem: `"${key}" is none of ${known}` };
    }
    const [least, most] = numbers[key];
    const number = value === "" ? Number.NaN : Number(value);
    if (!(number >= least && number <= most)) {
      return {
        kind: "bad",
        problem: `"${part.trim()}": ${key} is a number from ${least} to ${most}`,
      };
    }
    given.set(key, number);
  }
  const milli = (key: NumberKey, usual: number): number =>
    given.has(key) ? given.get(key)! * 1000 : usual;
  return {
    kind: "ok",
    load: {
      tasks: Math.round(given.get("tasks") ?? usualLoad.tasks),
      weights,
      load: given.get("load") ?? usualLoad.load,
      diurnal: given.get("diurnal") ?? usualLoad.diurnal,
      medianMs: (given.get("median-minutes") ?? usualLoad.medianMs / 60_000) * 60_000,
      gangMilli: milli("gangs", usualLoad.gangMilli),
      arrayMilli: milli("arrays", usualLoad.arrayMilli),
      preemptibleMilli: milli("preemptible", usualLoad.preemptibleMilli),
      failingMilli: milli("failing", usualLoad.failingMilli),
      sharesMilli: milli("shares", usualLoad.sharesMilli),
      instancesMilli: milli("instances", usualLoad.instancesMilli),
      habits: Math.round(given.get("habits") ?? usualLoad.habits),
      limitMs: (given.get("limit-hours") ?? 0) * 3_600_000,
    },
  };
}

const isNumberKey = (key: string): key is NumberKey => Object.hasOwn(numbers, key);

const tenantsOf = (count: number): readonly number[] =>
  Number.isInteger(count) && count >= 1 && count <= 1_000 ? Array<number>(count).fill(1) : [];
