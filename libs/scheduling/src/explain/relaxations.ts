import type { Demand, PlanNode, PlanTask } from "../plan.ts";
import { leastPart, type Change, type Dimension, type RemedyField } from "./dimension.ts";
import { partDimensions } from "./part-relaxations.ts";

/** A changed task that would start, and which fields differ. */
export interface Relaxation {
  readonly task: PlanTask;
  readonly fields: readonly RemedyField[];
}

/** How candidates are tried. */
export interface Trial {
  /** Whether a task finds a place: quick, asked often. */
  readonly works: (task: PlanTask) => boolean;
  /** Whether it really starts: asked of what works only. Default: it does. */
  readonly proven?: (task: PlanTask) => boolean;
  /** Tries are dear: where all that can be changed together is not proven, nothing is tried. Default: they are not. */
  readonly dear?: boolean;
  /** Asked before each combination: false ends the search with what is known. */
  readonly goOn?: () => boolean;
}

/** Fields that one remedy changes at most. */
const maxFields = 3;
/** Remedies offered at most, and combinations tried at most. */
const maxRemedies = 5;
const maxTries = 400;
/** Distinct values of an amount that are tried at most. */
const maxSteps = 256;

/**
 * The smallest changes of a task with which it starts: those of one field; where there is none, of two, then of
 * three. Within a change each amount is lowered no further than needed. `nodes` tell what values make sense.
 */
export function relaxations(
  task: PlanTask,
  nodes: readonly PlanNode[],
  trial: Trial,
): Relaxation[] {
  const dimensions = dimensionsOf(task, nodes);
  const { works, proven, goOn, dear = false } = trial;
  if (dear) {
    const all = fullest(task, dimensions);
    if (!works(all) || proven?.(all) === false) return [];
  }
  let tries = 0;
  for (let size = 1; size <= maxFields; size++) {
    const found: Relaxation[] = [];
    for (const subset of subsets(dimensions, size)) {
      if (++tries > maxTries || goOn?.() === false) return found;
      const full = fullest(task, subset);
      if (!works(full)) continue;
      const least = tighten(task, subset, works);
      const fields = fieldsOf(subset);
      if (proven === undefined || proven(least)) found.push({ task: least, fields });
      // What finds a place by itself may still go behind others: the whole change may not.
      else if (least !== full && proven(full)) found.push({ task: full, fields });
      if (found.length === maxRemedies) return found;
    }
    if (found.length > 0) return found;
  }
  return [];
}

const fullest = (task: PlanTask, subset: readonly Dimension[]): PlanTask =>
  subset.reduce((changed, { steps }) => steps.at(-1)?.(changed) ?? changed, task);

const fieldsOf = (subset: readonly Dimension[]): RemedyField[] => [
  ...new Set(subset.map(({ field }) => field)),
];

/** Takes each change back as far as the rest allows, one dimension after the other. */
function tighten(
  task: PlanTask,
  subset: readonly Dimension[],
  works: (task: PlanTask) => boolean,
): PlanTask {
  const chosen = subset.map(({ steps }) => steps.length - 1);
  const build = (): PlanTask =>
    subset.reduce((changed, { steps }, i) => steps[chosen[i] ?? 0]?.(changed) ?? changed, task);
  for (const i of subset.keys()) {
    let low = 0;
    let high = chosen[i] ?? 0;
    while (low < high) {
      const middle = (low + high) >> 1;
      chosen[i] = middle;
      if (works(build())) high = middle;
      else low = middle + 1;
    }
    chosen[i] = high;
  }
  return build();
}

function dimensionsOf(task: PlanTask, nodes: readonly PlanNode[]): Dimension[] {
  const { demand, replicas, topology } = task;
  const gpus = demand.gpuCount === 0 ? [] : nodes.flatMap((node) => node.gpus);
  const models = demand.gpuModels.length === 0 ? [] : [...new Set(gpus.map(({ model }) => model))];
  const fewer = Math.min(
    demand.gpuCount - 1,
    Math.max(0, ...nodes.map((node) => node.gpus.length)),
  );
  const pinned = topology.within !== undefined || topology.spreadOver !== undefined;
  const all: Dimension[] = [
    ...models
      .filter((model) => !demand.gpuModels.includes(model))
      .toSorted()
      .map((model) => onDemand("gpuModels", (of) => ({ gpuModels: [...of.gpuModels, model] }))),
    {
      field: "gpuCount",
      steps: Array.from({ length: Math.max(0, fewer) }, (_, i) => (each) => ({
        ...each,
        demand: { ...each.demand, gpuCount: fewer - i },
      })),
    },
    {
      field: "replicas",
      steps: Array.from({ length: replicas - 1 }, (_, i) => (each) => ({
        ...each,
        replicas: replicas - 1 - i,
      })),
    },
    ...(pinned ? [{ field: "topology", steps: [withoutTopology] } as const] : []),
    ...(demand.part?.kind === "share"
      ? []
      : [
          amounts("gpuMinMemoryMib", demand, { values: gpus.map((gpu) => gpu.memoryMib), part: 0 }),
        ]),
    ...(demand.gpuCount === 0 ? [] : partDimensions(demand, nodes)),
    ...(demand.simulatedOk || !gpus.some(({ simulated }) => simulated)
      ? []
      : [onDemand("simulatedOk", () => ({ simulatedOk: true }))]),
    ...(["cpuMillis", "memoryMib", "diskMib"] as const).map((field) => {
      const values = nodes.map((node) => freeOf(node, field));
      return amounts(field, demand, { values, part: leastPart });
    }),
  ];
  return all.filter(({ steps }) => steps.length > 0);
}

const withoutTopology: Change = (task) => ({ ...task, topology: {} });

function onDemand(field: RemedyField, change: (demand: Demand) => Partial<Demand>): Dimension {
  return {
    field,
    steps: [(task) => ({ ...task, demand: { ...task.demand, ...change(task.demand) } })],
  };
}

/** An amount lowered to one of the values that nodes have, but to no less than a part of it. */
function amounts(
  field: "gpuMinMemoryMib" | "cpuMillis" | "memoryMib" | "diskMib",
  demand: Demand,
  { values, part }: { values: readonly number[]; part: number },
): Dimension {
  const asked = demand[field];
  const lower = [...new Set(values)]
    .filter((value) => value > 0 && value < asked && value >= asked * part)
    .sort((a, b) => b - a)
    .slice(0, maxSteps);
  return {
    field,
    steps: lower.map((value) => (task) => ({
      ...task,
      demand: { ...task.demand, [field]: value },
    })),
  };
}

function freeOf(node: PlanNode, field: "cpuMillis" | "memoryMib" | "diskMib"): number {
  return node.running.reduce((left, lease) => left - lease[field], node[field]);
}

/** All subsets of a size, those of the first dimensions first. */
function* subsets<T>(items: readonly T[], size: number, from = 0): Generator<T[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let at = from; at <= items.length - size; at++) {
    const head = items[at];
    if (head === undefined) return;
    for (const rest of subsets(items, size - 1, at + 1)) yield [head, ...rest];
  }
}
