import type { PlanTask, PlanWanted } from "./plan.ts";

/** How much of a long line one plan looks at. */
export interface WindowBounds {
  /** Tasks in all, where there are fewer lines (owner × needs) than that; else one of each line. */
  readonly tasks: number;
  /** Tasks of one line. */
  readonly perLine: number;
}

/** What a plan of the leader looks at (docs/decisions/waiting-tasks.md). */
export const planWindow: WindowBounds = { tasks: 16_384, perLine: 256 };

/** Tasks of each line that fit the window; in powers of two, so that one line more does not change all others. */
export function tasksPerLine(lines: number, bounds: WindowBounds = planWindow): number {
  const fits = Math.floor(bounds.tasks / Math.max(1, lines));
  return Math.min(bounds.perLine, 2 ** Math.floor(Math.log2(Math.max(1, fits))));
}

/** What waits out of view, summed by project and user. */
export class Behind {
  private readonly sums = new Map<
    string,
    { -readonly [Key in keyof PlanWanted]: PlanWanted[Key] }
  >();

  add(
    owner: Pick<PlanTask, "org" | "project" | "user">,
    wants: Pick<PlanTask, "demand" | "replicas">,
  ) {
    const { org, project, user } = owner;
    const { demand, replicas } = wants;
    const key = `${project} ${user}`;
    let sum = this.sums.get(key);
    if (sum === undefined) {
      sum = { org, project, user, tasks: 0, gpus: 0, cpuMillis: 0 };
      this.sums.set(key, sum);
    }
    sum.tasks++;
    sum.gpus += replicas * demand.gpuCount;
    if (demand.gpuCount === 0) sum.cpuMillis += replicas * demand.cpuMillis;
  }

  all(): readonly PlanWanted[] {
    return [...this.sums.values()];
  }
}
