/**
 * The allocation experiment of "Beware of Fragmentation" (USENIX ATC '23): pods arrive in
 * random order, none departs, none is retried; how much of the GPUs is given out when
 * arrivals reach some part of capacity?
 */
import { PlacementEngine } from "@fastgpu/scheduling/placement/engine";
import type { PolicyName } from "@fastgpu/scheduling/placement/engine";
import type { NodeSpec } from "@fastgpu/scheduling/placement/nodes";
import { emptyRequest } from "@fastgpu/scheduling/placement/shapes";
import type { ResourceRequest } from "@fastgpu/scheduling/placement/shapes";
import type { PolicyFactory } from "@fastgpu/scheduling/placement/policy";
import { seededRandom, shuffle } from "./seeded.ts";
import type { OpenbNode, OpenbPod } from "./trace.ts";

/** Arrivals, in percent of the GPUs, at which allocation is read. */
export const arrivedPct = [95, 100, 105, 110, 120, 130] as const;

/** One run of the experiment. */
export interface AllocationRun {
  readonly nodes: readonly OpenbNode[];
  readonly pods: readonly OpenbPod[];
  readonly seed: number;
  readonly policy: PolicyName | PolicyFactory;
  /** True tells the policy the whole list beforehand, as the published FGD has it. */
  readonly knownMix: boolean;
}

/** What a run gave. */
export interface AllocationResult {
  /** Percent of all GPUs given out, beside `arrivedPct`. */
  readonly allocatedPct: readonly number[];
  readonly placed: number;
  readonly refused: number;
}

/** The node of a trace as the engine takes it; GPUs of openb may be shared by anyone. */
export function toNodeSpec(node: OpenbNode): NodeSpec {
  return {
    id: node.id,
    cpuMillis: node.cpuMillis,
    memoryMib: node.memoryMib,
    diskMib: 0,
    schedulable: true,
    topology: {},
    gpus: Array.from({ length: node.gpus }, (_, index) => ({
      id: `${node.id}/${index}`,
      model: node.model,
      memoryMib: 0,
      capacityMilli: 1000,
      isolation: "timeslice" as const,
      simulated: true,
    })),
  };
}

/** The request of a pod. */
export function toRequest(pod: OpenbPod): ResourceRequest {
  const { cpuMillis, memoryMib, gpus, gpuMilli, models } = pod;
  return { ...emptyRequest, cpuMillis, memoryMib, gpus, gpuMilli, models };
}

/** Keeps the order of the nodes apart from the order of the pods, which has the seed itself. */
const nodeOrderSeed = 0x6e6f6465;

/**
 * The nodes under names of a random order, as in the published experiment: ties between nodes go
 * to the lowest name, and the list has nodes of one kind beside each other.
 */
export function renamed(nodes: readonly NodeSpec[], seed: number): NodeSpec[] {
  const places = shuffle([...nodes.keys()], seededRandom(seed ^ nodeOrderSeed));
  return nodes.map((node, index) => ({
    ...node,
    id: `${String(places[index]).padStart(6, "0")}-${node.id}`,
  }));
}

/** Runs the experiment once. Throws RangeError when the pods ask for no GPU at all. */
export function runAllocation(run: AllocationRun): AllocationResult {
  const random = seededRandom(run.seed);
  const engine = new PlacementEngine({
    nodes: renamed(run.nodes.map(toNodeSpec), run.seed),
    policy: run.policy,
    rng: random,
    maxGpusPerNode: Math.max(1, ...run.nodes.map(({ gpus }) => gpus)),
  });
  const shapes = run.pods.map((pod) => engine.shape(toRequest(pod)));
  if (!shapes.some(({ gpus }) => gpus > 0))
    throw new RangeError("no pod of the list asks for a GPU");
  if (run.knownMix) for (const shape of shapes) engine.observe(shape);
  const queue = shuffle([...shapes], random);
  const capacity = engine.cluster.capacityMilli;
  const allocatedPct: number[] = [];
  let arrived = 0;
  let allocated = 0;
  let placed = 0;
  let refused = 0;
  for (let index = 0; allocatedPct.length < arrivedPct.length; index++) {
    const shape = queue[index] ?? shapes[Math.floor(random() * shapes.length)]!;
    const demand = shape.gpus * shape.gpuMilli;
    while (arrived + demand > (arrivedPct[allocatedPct.length]! / 100) * capacity) {
      allocatedPct.push((100 * allocated) / capacity);
      if (allocatedPct.length === arrivedPct.length) break;
    }
    arrived += demand;
    if (!run.knownMix) engine.observe(shape);
    if (engine.place(shape) === undefined) refused++;
    else {
      allocated += demand;
      placed++;
    }
  }
  return { allocatedPct, placed, refused };
}
