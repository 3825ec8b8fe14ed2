/** Plain policies, for operators who want them and as peers in the experiments. */
import type { Policy, PolicyContext, PolicyFactory } from "./policy.ts";
import type { Shape } from "./shapes.ts";

/** Ranks nodes by one number and GPUs within a node by another. */
interface Preference {
  readonly name: string;
  readonly anyNode?: boolean;
  /** Higher is better. */
  readonly node: (context: PolicyContext, slot: number, shape: Shape) => number;
  /** Higher is better; equal GPUs by canonical position. */
  readonly gpu: (gap: number) => number;
}

function preferencePolicy(preference: Preference): PolicyFactory {
  return (context) => {
    const score = (slot: number, shape: Shape): number => preference.node(context, slot, shape);
    const policy: Policy = {
      name: preference.name,
      anyNode: preference.anyNode === true,
      epoch: 0,
      sharesBounds: false,
      refresh: () => {},
      bound: score,
      score,
      choose: (slot, shape, positions) => {
        const { states } = context.cluster;
        const base = states.base[slot]!;
        const fitting: number[] = [];
        for (let i = 0; i < states.gpus[slot]!; i++) {
          if (context.fitter.gpuFits(base + i, shape)) fitting.push(i);
        }
        const rank = (i: number): number => preference.gpu(states.gap[base + i]!);
        fitting.sort((a, b) => rank(b) - rank(a) || a - b);
        positions.length = 0;
        positions.push(...fitting.slice(0, shape.gpus));
      },
    };
    return policy;
  };
}

/** The largest machine that best-fit scores are measured against. */
const largestCpuMillis = 128_000;
const largestGpuMilli = 8000;

function freeGpuMilli({ cluster }: PolicyContext, slot: number): number {
  const base = cluster.states.base[slot]!;
  let free = 0;
  for (let i = 0; i < cluster.states.gpus[slot]!; i++) free += cluster.states.gap[base + i]!;
  return free;
}

/** Least remaining resources: GPU and CPU at equal weight, in whole points of 100. */
export const createBestFitPolicy: PolicyFactory = preferencePolicy({
  name: "bestfit",
  node: (context, slot, shape) => {
    const gpu = freeGpuMilli(context, slot) - shape.gpus * shape.gpuMilli;
    const cpu = context.cluster.states.cpuMillis[slot]! - shape.cpuMillis;
    return Math.trunc(100 * (1 - 0.5 * (gpu / largestGpuMilli) - 0.5 * (cpu / largestCpuMillis)));
  },
  gpu: (gap) => -gap,
});

/** GPUs in use first, then nodes in use, then idle nodes. */
export const createPackingPolicy: PolicyFactory = preferencePolicy({
  name: "packing",
  node: (context, slot, shape) => {
    const { states } = context.cluster;
    const base = states.base[slot]!;
    let idle = 0;
    let shareable = 0;
    for (let i = 0; i < states.gpus[slot]!; i++) {
      const gap = states.gap[base + i]!;
      if (gap >= 1000) idle++;
      else if (context.fitter.gpuFits(base + i, shape)) shareable++;
    }
    const wanted = Math.max(0, shape.gpus - shareable);
    return idle === states.gpus[slot] ? -1000 * wanted - idle : -100 * wanted - idle;
  },
  gpu: (gap) => -gap,
});

/** The node and the GPU with most left. */
export const createSpreadingPolicy: PolicyFactory = preferencePolicy({
  name: "spreading",
  node: (context, slot) => freeGpuMilli(context, slot),
  gpu: (gap) => gap,
});

/** Any node that fits, drawn evenly; the fullest GPU that fits. */
export const createRandomPolicy: PolicyFactory = preferencePolicy({
  name: "random",
  anyNode: true,
  node: () => 0,
  gpu: () => 0,
});
