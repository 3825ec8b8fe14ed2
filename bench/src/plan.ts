/** CPU time of one plan of the scheduler's cycle on a full fleet, by how much has changed since the last one. */
import type { Plan } from "@fastgpu/scheduling/plan";
import { createPlanner, type Planner } from "@fastgpu/scheduling/planner";
import { same } from "@fastgpu/scheduling/recording/same";
import {
  defaultSchedulingPolicy,
  type SchedulingPolicy,
} from "@fastgpu/scheduling/scheduling-policy";
import { cpuMs, median } from "./figures.ts";
import { countOf, flagsOf, listOf, numberOf, tellRows } from "./flags.ts";
import { PlanScene, startMs, type SceneOptions } from "./plan-state.ts";

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
but the time (none), a part of the nodes (some), every node (all); "first" is a planner's first plan. For each kind a
planner made anew plans on the same state too: "differing" counts where its decisions are not the same.
`;

/** The bench. */
export async function main(args: readonly string[]): Promise<number> {
  const values = flagsOf(args, {
    usage,
    defaults: {
      ...{ gpus: "1000,10000", preemptible: "0.5,0", free: "0", tasks: "2000", queues: "120" },
      ...{ plans: "8", changed: "0.01", seed: "42" },
    },
  });
  if (values === undefined) return 0;
  const part = (name: string, text: string): number => numberOf(name, text, { most: 1 });
  const of = {
    ...{ endless: 0.5, free: part("free", values.free), changed: part("changed", values.changed) },
    ...{ tasks: countOf("tasks", values.tasks), queues: countOf("queues", values.queues) },
    ...{ plans: countOf("plans", values.plans), seed: countOf("seed", values.seed, 0) },
  };
  const rows = listOf(values.gpus, (text) => countOf("gpus", text)).flatMap((gpus) =>
    listOf(values.preemptible, (text) => part("preemptible", text)).map((preemptible) =>
      measure({ ...of, gpus, preemptible }),
    ),
  );
  await tellRows(rows, values.json);
  return rows.every(({ differing }) => differing === 0) ? 0 : 1;
}

const rng = (): number => 0.5;

interface Options extends SceneOptions {
  readonly plans: number;
  /** Part of the nodes that changes in "some". */
  readonly changed: number;
}

function measure(of: Options) {
  const run = new Run(of, defaultSchedulingPolicy);
  const first = run.plan();
  const kind = (nodes: number): number[] =>
    Array.from({ length: of.plans }, () => {
      run.change(nodes);
      return run.plan().ms;
    });
  const none = kind(0);
  const some = kind(run.part(of.changed));
  const all = kind(run.part(1));
  return {
    ...{ gpus: of.gpus, preemptible: of.preemptible },
    firstMs: rounded(first.ms),
    ...{ noneMs: rounded(median(none)), noneMaxMs: rounded(Math.max(...none)) },
    ...{ someMs: rounded(median(some)), someMaxMs: rounded(Math.max(...some)) },
    ...{ allMs: rounded(median(all)), allMaxMs: rounded(Math.max(...all)) },
    placements: first.plan.placements.length,
    preemptions: first.plan.preemptions.length,
    starts: first.plan.starts.size,
    differing: differing(of),
  };
}

/**
 * Plans that a planner made anew makes otherwise, of one of each kind. By best fit: the default policy's engine renews
 * its prices by what has changed since the last time, so that it remembers more than what was learned.
 */
function differing(of: Options): number {
  const policy: SchedulingPolicy = { ...defaultSchedulingPolicy, placement: "bestfit" };
  const run = new Run(of, policy);
  run.plan();
  return [0, run.part(of.changed), run.part(1)].filter((nodes) => {
    run.change(nodes);
    const { plan } = run.plan();
    return !same(plan, run.afresh());
  }).length;
}

/** A scene with a planner that lives on. */
class Run {
  private readonly scene: PlanScene;
  private readonly policy: SchedulingPolicy;
  private readonly planner: Planner;
  private nowMs = startMs;

  constructor(of: SceneOptions, policy: SchedulingPolicy) {
    this.scene = new PlanScene(of);
    this.policy = policy;
    this.planner = createPlanner({ policy, rng });
  }

  /** So many of the nodes, at least one. */
  part(part: number): number {
    return Math.ceil(part * this.scene.nodes.length);
  }

  change(nodes: number): void {
    this.scene.change(nodes, this.nowMs);
  }

  plan(): { plan: Plan; ms: number } {
    const state = this.scene.state();
    this.nowMs += 50;
    const fromMs = cpuMs();
    const plan = this.planner.plan(state, this.nowMs);
    return { plan, ms: cpuMs() - fromMs };
  }

  /** The same plan by a planner without a memory but for what was learned. */
  afresh(): Plan {
    const { policy } = this;
    const learned = this.planner.learned();
    return createPlanner({ policy, rng, learned }).plan(this.scene.state(), this.nowMs);
  }
}

const rounded = (ms: number): number => Math.round(ms * 10) / 10;
