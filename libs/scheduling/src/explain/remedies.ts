import type { Demand, PlanNode } from "../plan.ts";

/** A field of the demand that a remedy changes. */
export type RemedyField =
  | "gpuModels"
  | "gpuCount"
  | "gpuMinMemoryMib"
  | "simulatedOk"
  | "cpuMillis"
  | "memoryMib"
  | "diskMib";

/** One way to ask for less: from the smallest change to the greatest; where one works, all later ones do. */
interface Dimension {
  readonly field: RemedyField;
  readonly steps: readonly ((demand: Demand) => Demand)[];
}

/** A changed demand that would start, and which fields differ. */
export interface Relaxation {
  readonly demand: Demand;
  readonly fields: readonly RemedyField[];
}

/** Fields that one remedy changes at most. */
const maxFields = 3;
/** Remedies offered at most, and combinations tried at most. */
const maxRemedies = 5;
const maxTries = 400;
/** Distinct values of an amount that are tried at most. */
const maxSteps = 256;
/** Of CPU, memory and disk a remedy leaves at least this part: with less the task is another one. */
const leastPart = 0.25;

/**
 * The smallest changes of a demand with which `works` answers true: those of one field; where there is none, of two,
 * then of three. Within a change each amount is lowered no further than needed. `nodes` tell what values make sense.
 */
export function relaxations(
  demand: Demand,
  nodes: readonly PlanNode[],
  works: (demand: Demand) => boolean,
): Relaxation[] {
  const dimensions = dimensionsOf(demand, nodes);
  let tries = 0;
  const tried = (candidate: Demand): boolean => ++tries <= maxTries && works(candidate);
  for (let size = 1; size <= maxFields; size++) {
    const found: Relaxation[] = [];
    for (const subset of subsets(dimensions, size)) {
      const full = subset.reduce(
        (changed, { steps }) => steps.at(-1)?.(changed) ?? changed,
        demand,
      );
      if (!tried(full)) continue;
      found.push({ demand: tighten(demand, subset, works), fields: fieldsOf(subset) });
      if (found.length === maxRemedies) return found;
    }
    if (found.length > 0) return found;
  }
  return [];
}

const fieldsOf = (subset: readonly Dimension[]): RemedyField[] => [
  ...new Set(subset.map(({ field }) => field)),
];

/** Takes each change back as far as the rest allows, one dimension after the other. */
function tighten(
  demand: Demand,
  subset: readonly Dimension[],
  works: (demand: Demand) => boolean,
): Demand {
  const chosen = subset.map(({ steps }) => steps.length - 1);
  const build = (): Demand =>
    subset.reduce((changed, { steps }, i) => steps[chosen[i] ?? 0]?.(changed) ?? changed, demand);
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

function dimensionsOf(demand: Demand, nodes: readonly PlanNode[]): Dimension[] {
  const gpus = demand.gpuCount === 0 ? [] : nodes.flatMap((node) => node.gpus);
  const models = demand.gpuModels.length === 0 ? [] : [...new Set(gpus.map(({ model }) => model))];
  const fewer = Math.min(
    demand.gpuCount - 1,
    Math.max(0, ...nodes.map((node) => node.gpus.length)),
  );
  const all: Dimension[] = [
    ...models
      .filter((model) => !demand.gpuModels.includes(model))
      .toSorted()
      .map((model) =>
        dimension("gpuModels", (each) => ({ gpuModels: [...each.gpuModels, model] })),
      ),
    {
      field: "gpuCount",
      steps: Array.from({ length: Math.max(0, fewer) }, (_, i) => (each) => ({
        ...each,
        gpuCount: fewer - i,
      })),
    },
    amounts(
      "gpuMinMemoryMib",
      demand,
      gpus.map(({ memoryMib }) => memoryMib),
      0,
    ),
    ...(demand.simulatedOk || !gpus.some(({ simulated }) => simulated)
      ? []
      : [dimension("simulatedOk", () => ({ simulatedOk: true }))]),
    ...(["cpuMillis", "memoryMib", "diskMib"] as const).map((field) =>
      amounts(
        field,
        demand,
        nodes.map((node) => freeOf(node, field)),
        leastPart,
      ),
    ),
  ];
  return all.filter(({ steps }) => steps.length > 0);
}

function dimension(field: RemedyField, change: (demand: Demand) => Partial<Demand>): Dimension {
  return { field, steps: [(demand) => ({ ...demand, ...change(demand) })] };
}

/** An amount lowered to one of the values that nodes have. */
function amounts(
  field: "gpuMinMemoryMib" | "cpuMillis" | "memoryMib" | "diskMib",
  demand: Demand,
  values: readonly number[],
  part: number,
): Dimension {
  const asked = demand[field];
  const lower = [...new Set(values)]
    .filter((value) => value > 0 && value < asked && value >= asked * part)
    .sort((a, b) => b - a)
    .slice(0, maxSteps);
  return { field, steps: lower.map((value) => (each) => ({ ...each, [field]: value })) };
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
