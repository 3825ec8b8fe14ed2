/** What a recording of the scheduling cycle costs: bytes and CPU time, beside the planning itself; replayed after. */
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { createPlanning } from "@fastgpu/scheduler/cycle/planning";
import { engineVersion } from "@fastgpu/scheduler/recording/engine-version";
import { createRecorder, type Recorder } from "@fastgpu/scheduler/recording/recorder";
import { listSegments } from "@fastgpu/scheduler/recording/ring";
import { replaySegments } from "@fastgpu/scheduler/replay/replay";
import type { Plan, PlanState } from "@fastgpu/scheduling/plan";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { parseInventory } from "@fastgpu/simulation/fleet/inventory";
import { drawLoad, usualLoad } from "@fastgpu/simulation/fleet/load";
import { prepare } from "@fastgpu/simulation/fleet/simulate";
import { createLogger } from "@fastgpu/telemetry/log";
import { cpuMs } from "./figures.ts";
import { countOf, flagsOf, numberOf, tellRows, UsageError } from "./flags.ts";

const usage = `usage: npm run bench -- recording [flags]

  --fleet SPEC[;SPEC]  simulated fleet (default "8x H100 x 125 nodes")
  --tasks N            tasks that go through it (default 10000)
  --load N             wanted over existing GPUs (default 1.1)
  --seed N             (default 42)
  --json OUT           one JSON object
`;

/** The bench. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: { fleet: "8x H100 x 125 nodes", tasks: "10000", load: "1.1", seed: "42" },
  });
  if (values === undefined) return 0;
  const inventory = parseInventory(values.fleet);
  if (inventory.kind === "bad") throw new UsageError(inventory.problem);
  const gpus = inventory.nodes.reduce((sum, node) => sum + node.gpus, 0);
  const gpusPerNode = Math.max(...inventory.nodes.map((node) => node.gpus));
  const tasks = countOf("tasks", values.tasks);
  const load = numberOf("load", values.load);
  const seed = countOf("seed", values.seed, 0);
  const asked = { tasks, load, fleetGpus: gpus, gpusPerNode, seed };
  const workload = drawLoad({ ...usualLoad, ...asked });
  const directory = await mkdtemp(join(tmpdir(), "fastgpu-bench-recording-"));
  try {
    const recorder = createRecorder({
      ...{ directory, maxBytes: 2 ** 40, segmentBytes: 16 * 2 ** 20 },
      clock: { nowMs: () => Date.now() },
      log: createLogger({ service: "bench", level: "warn" }),
      writer: { product: "0", engine: await engineVersion(), replica: "bench", term: 1 },
    });
    const meter = meterOf(recorder);
    const policy = { name: "shipped", policy: defaultSchedulingPolicy };
    const run = prepare({ nodes: inventory.nodes, workload, seed, planner: meter }, policy);
    while (run.advance(200)) await setImmediate();
    await recorder[Symbol.asyncDispose]();
    const paths = await listSegments(directory);
    const sizes = await Promise.all(paths.map(async (path) => (await stat(path)).size));
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    const replayed = await replaySegments(paths);
    const { cycles, planMs, recordMs } = meter.measured;
    const row = {
      ...{ gpus, tasks, cycles, decisions: replayed.decisions, segments: paths.length, bytes },
      bytesPerCycle: Math.round(bytes / cycles),
      bytesPerDecision: Math.round(bytes / Math.max(1, replayed.decisions)),
      planMicros: Math.round((1_000 * planMs) / cycles),
      recordMicros: Math.round((1_000 * recordMs) / cycles),
      replayedCycles: replayed.cycles,
      mismatches: replayed.mismatches,
    };
    await tellRows([row], values.json);
    return replayed.mismatches === 0 && replayed.cycles === cycles ? 0 : 1;
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** A planner that is recorded, with the CPU time of the main thread that either takes. */
function meterOf(recorder: Recorder) {
  const measured = { cycles: 0, planMs: 0, recordMs: 0 };
  let insideMs = 0;
  const timed: Recorder = {
    ...recorder,
    cycle(state, nowMs, plan) {
      const fromMs = cpuMs();
      recorder.cycle(state, nowMs, plan);
      insideMs += cpuMs() - fromMs;
    },
    [Symbol.asyncDispose]: () => recorder[Symbol.asyncDispose](),
  };
  const planning = createPlanning(defaultSchedulingPolicy, timed);
  const copies = new WeakMap<object, object>();
  /** The simulator's objects tell the time when they are asked; the service's are plain data. */
  const still = <T extends object>(each: T): T => {
    let copy = copies.get(each);
    if (copy === undefined) copies.set(each, (copy = structuredClone(each)));
    return copy as T;
  };
  return {
    measured,
    plan(live: PlanState, nowMs: number): Plan {
      const state = { ...live, nodes: live.nodes.map(still), tasks: live.tasks.map(still) };
      insideMs = 0;
      const fromMs = cpuMs();
      const plan = planning.plan(state, nowMs);
      measured.planMs += cpuMs() - fromMs - insideMs;
      measured.recordMs += insideMs;
      measured.cycles += 1;
      return plan;
    },
  };
}
