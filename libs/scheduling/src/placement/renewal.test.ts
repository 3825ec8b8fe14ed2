import { expect, test } from "vitest";
import { seededRng } from "../seeded-rng.ts";
import type { Placement } from "./cluster.ts";
import { PlacementEngine } from "./engine.ts";
import type { LearnedMix } from "./mix.ts";
import type { NodeSpec } from "./nodes.ts";
import { emptyRequest } from "./shapes.ts";
import type { ResourceRequest, Shape } from "./shapes.ts";

const nodes: readonly NodeSpec[] = Array.from({ length: 60 }, (_, index) => ({
  id: `node-${String(index).padStart(3, "0")}`,
  cpuMillis: 96_000,
  memoryMib: 1_000_000,
  diskMib: 0,
  schedulable: true,
  topology: {},
  gpus: Array.from({ length: 8 }, (_unused, gpu) => ({
    id: String(gpu),
    model: "A",
    memoryMib: 0,
    capacityMilli: 1000,
    isolation: "timeslice" as const,
    simulated: false,
  })),
}));

const request = (over: Partial<ResourceRequest>): ResourceRequest => ({
  ...emptyRequest,
  gpus: 1,
  gpuMilli: 1000,
  cpuMillis: 8000,
  ...over,
});

/** Requests and how many of a hundred arrivals ask for them. */
const workload: readonly (readonly [number, ResourceRequest])[] = [
  [4, request({ gpus: 8, cpuMillis: 88_000 })],
  [3, request({ gpus: 8, cpuMillis: 32_000 })],
  [5, request({ gpus: 4, cpuMillis: 32_000 })],
  [8, request({ gpus: 2, cpuMillis: 16_000 })],
  [20, request({ cpuMillis: 4000 })],
  [20, request({ cpuMillis: 11_000 })],
  [10, request({ gpuMilli: 500, cpuMillis: 3000 })],
  [10, request({ gpuMilli: 300, cpuMillis: 8000 })],
  [10, request({ gpuMilli: 700, cpuMillis: 6000 })],
  [10, request({ gpus: 0, gpuMilli: 0, cpuMillis: 8000 })],
];

function engineOf(learned?: LearnedMix): PlacementEngine {
  const options = { nodes, policy: "default", rng: () => 0, maxGpusPerNode: 8 } as const;
  return new PlacementEngine(learned === undefined ? options : { ...options, learned });
}

class Arrivals {
  private readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRng(seed);
  }

  next(engine: PlacementEngine): Shape {
    let at = Math.floor(100 * this.random());
    const [, drawn] = workload.find(([count]) => (at -= count) < 0)!;
    return engine.shape(drawn);
  }
}

type Running = { readonly shape: Shape; readonly placement: Placement }[];

/** Lets as much arrive as the cluster has; answers what found a place. */
function fill(engine: PlacementEngine, seed: number): Running {
  const arrivals = new Arrivals(seed);
  const running: Running = [];
  let open = engine.cluster.capacityMilli;
  while (open > 0) {
    const shape = arrivals.next(engine);
    open -= shape.gpus * shape.gpuMilli;
    engine.observe(shape);
    const placement = engine.place(shape);
    if (placement !== undefined) running.push({ shape, placement });
  }
  return running;
}

/** Percent of the GPUs given out. */
const allocated = ({ cluster }: PlacementEngine): number =>
  100 * (1 - cluster.supply.freeMilli / cluster.capacityMilli);

const seeds = [1, 2, 3, 4, 5, 6];
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

test("an empty cluster fills as well with a mix of many fills as with none", () => {
  const first: number[] = [];
  const restarted: number[] = [];
  const drained: number[] = [];
  for (const seed of seeds) {
    const engine = engineOf();
    const running = fill(engine, seed);
    first.push(allocated(engine));
    const teacher = engineOf();
    const arrivals = new Arrivals(seed + 100);
    for (let count = 0; count < 5000; count++) teacher.observe(arrivals.next(teacher));
    const second = engineOf(teacher.mix.learned());
    fill(second, seed);
    restarted.push(allocated(second));
    for (const { shape, placement } of running) engine.release(shape, placement);
    for (let more = 1; more <= 3; more++) {
      const again = fill(engine, more === 3 ? seed : seed + more);
      if (more === 3) drained.push(allocated(engine));
      for (const { shape, placement } of again) engine.release(shape, placement);
    }
  }
  expect(mean(restarted)).toBeGreaterThan(mean(first) - 0.5);
  expect(mean(drained)).toBeGreaterThan(mean(first) - 0.5);
});

test("a load held steady renews a few times in many fills, whatever goes and comes", () => {
  const engine = engineOf();
  const running = fill(engine, 1);
  const random = seededRng(2);
  const arrivals = new Arrivals(3);
  const { cluster, policy } = engine;
  let renewalsAtStart = 0;
  for (let count = 0; count < 8000; count++) {
    if (count === 2000) renewalsAtStart = policy.epoch;
    while (cluster.supply.freeMilli < 0.15 * cluster.capacityMilli) {
      const [gone] = running.splice(Math.floor(random() * running.length), 1);
      engine.release(gone!.shape, gone!.placement);
    }
    const shape = arrivals.next(engine);
    engine.observe(shape);
    const placement = engine.place(shape);
    if (placement !== undefined) running.push({ shape, placement });
  }
  // About 20 fills: one renewal in each four of them, and a few for a mix that is still learned.
  expect(policy.epoch - renewalsAtStart).toBeLessThan(20);
});
