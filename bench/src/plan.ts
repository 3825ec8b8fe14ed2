/** CPU time of one plan of the scheduler's cycle on a full fleet, by how much has changed since the last one. */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import type { Plan } from "@fastgpu/scheduling/plan";
import { createPlanner, type Planner } from "@fastgpu/scheduling/planner";
import { same } from "@fastgpu/scheduling/recording/same";
import { defaultSchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { PlanScene, startMs } from "./plan-state.ts";

const usage = `usage: npm run bench -- plan [flags]

  --gpus N[,N]         fleets of nodes with 8 GPUs (default 1000,10000)
  --preemptible P[,P]  parts of the running work that can be stopped (default 0.5,0)
  --free P             part of the GPUs that nobody holds (default 0)
  --tasks N            tasks that wait (default 2000)
  --queues N           projects that they wait in (default 120)
  --plans N            plans measured of each kind (default 8)
  --changed P          part of the nodes that changes in "some" (default 0.01)
  --seed N             (default 42)
  --json OUT           one JSON object a line

CPU milliseconds of this thread, median and greatest of the plans, by what has changed since the plan before: nothing
but the time (none), a part of the nodes (some), every node (all); "first" is a planner's first plan. After each kind a
planner made anew plans on the same state with what was learned: its decisions must be the same.
`;

/** The bench. */
export async function main(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      gpus: { type: "string", default: "1000,10000" },
      preemptible: { type: "string", default: "0.5,0" },
      free: { type: "string", default: "0" },
      tasks: { type: "string", default: "2000" },
      queues: { type: "string", default: "120" },
      plans: { type: "string", default: "8" },
      changed: { type: "string", default: "0.01" },
      seed: { type: "string", default: "42" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const numbers = (text: string): number[] => text.split(",").map(Number);
  const rows = numbers(values.gpus).flatMap((gpus) =>
    numbers(values.preemptible).map((preemptible) =>
      measure({
        ...{ gpus, preemptible, free: Number(values.free), tasks: Number(values.tasks) },
        ...{ queues: Number(values.queues), seed: Number(values.seed) },
        ...{ plans: Number(values.plans), changed: Number(values.changed) },
      }),
    ),
  );
  console.table(rows);
  if (values.json !== undefined) {
    await writeFile(values.json, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }
  return rows.every(({ differing }) => differing === 0) ? 0 : 1;
}

const policy = defaultSchedulingPolicy;
const rng = (): number => 0.5;

function measure(of: {
  gpus: number;
  preemptible: number;
  free: number;
  tasks: number;
  queues: number;
  seed: number;
  plans: number;
  changed: number;
}) {
  const scene = new PlanScene(of);
  const planner = createPlanner({ policy, rng });
  let nowMs = startMs;
  const plan = (): { plan: Plan; ms: number } => {
    const state = scene.state();
    nowMs += 50;
    const fromMs = cpuMs();
    const made = planner.plan(state, nowMs);
    return { plan: made, ms: cpuMs() - fromMs };
  };
  const first = plan();
  let differing = 0;
  const kind = (nodes: number): number[] => {
    const times: number[] = [];
    for (let n = 0; n < of.plans; n++) {
      scene.change(nodes, nowMs);
      const { plan: made, ms } = plan();
      times.push(ms);
      if (n === of.plans - 1 && !same(made, afresh(planner, scene, nowMs))) differing++;
    }
    return times;
  };
  const none = kind(0);
  const some = kind(Math.ceil(of.changed * scene.nodes.length));
  const all = kind(scene.nodes.length);
  return {
    ...{ gpus: of.gpus, preemptible: of.preemptible },
    firstMs: rounded(first.ms),
    ...{ noneMs: median(none), noneMaxMs: rounded(Math.max(...none)) },
    ...{ someMs: median(some), someMaxMs: rounded(Math.max(...some)) },
    ...{ allMs: median(all), allMaxMs: rounded(Math.max(...all)) },
    placements: first.plan.placements.length,
    preemptions: first.plan.preemptions.length,
    starts: first.plan.starts.size,
    differing,
  };
}

/** The plan of a planner without a memory but for what was learned. */
function afresh(planner: Planner, scene: PlanScene, nowMs: number): Plan {
  const fresh = createPlanner({ policy, rng, learned: planner.learned() });
  return fresh.plan(scene.state(), nowMs);
}

function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

const rounded = (ms: number): number => Math.round(ms * 10) / 10;

const median = (values: readonly number[]): number =>
  rounded(values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN);
