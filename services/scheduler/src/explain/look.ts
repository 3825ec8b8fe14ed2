import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { explainTask, type Explanation } from "@fastgpu/scheduling/explain/explain";
import { plainTask, type PlanTask } from "@fastgpu/scheduling/plan";
import type { Scheduler } from "../scheduler.ts";
import type { StoredGpu } from "../store/nodes.ts";
import type { Shortfall } from "./explanation-to-wire.ts";
import { leastHoldNanos, pricedItems, type Funds } from "./funds.ts";
import type { Snapshot } from "./snapshot.ts";

/** Ties are broken the same way each time, so that two questions get one answer. */
export const rng = (): number => 0.5;

/** Time that the forecasts of one answer take at most, as they hold up the process. */
const forecastBudgetMs = 250;

/** Lets forecasts go on until the budget is used up. */
export function forecastBudget(): () => boolean {
  const untilMs = performance.now() + forecastBudgetMs;
  return () => performance.now() < untilMs;
}

/** Explains a task on a snapshot. `maxRunMs` is its own longest time. */
export function lookAt(
  snapshot: Snapshot,
  task: PlanTask,
  at: { nowMs: number; maxRunMs: number },
): Explanation {
  return explainTask({
    state: snapshot.state,
    task,
    nowMs: at.nowMs,
    endsByMs: snapshot.endsByMs,
    maxRunMs: (id) => (id === task.id ? at.maxRunMs : (snapshot.maxRunMs.get(id) ?? 0)),
    policy: "default",
    rng,
    goOn: forecastBudget(),
  });
}

/** The GPUs that the task would get; undefined where there is no place. */
export function expectedGpus(
  { forecast }: Explanation,
  snapshot: Snapshot,
): readonly StoredGpu[] | undefined {
  if (forecast.kind !== "starts") return undefined;
  return forecast.gpus.flatMap((id) => snapshot.gpus.get(id) ?? []);
}

/** What is missing for the hold of these GPUs; undefined where there is enough, or no price. */
export function shortfallOf(
  s: Scheduler,
  of: { gpus: readonly StoredGpu[] | undefined; stopGraceMs: number; funds: Funds },
): Shortfall | undefined {
  const { prices, availableNanos } = of.funds;
  const items = pricedItems(of.gpus ?? [], prices);
  if (items === undefined || items.length === 0) return undefined;
  const neededNanos = leastHoldNanos(items, of.stopGraceMs, s.config);
  if (neededNanos <= availableNanos) return undefined;
  return { currency: prices.currency, neededNanos, availableNanos };
}

/** What the planner needs of a task that it may not have in line. */
export function planTaskOf(of: {
  id: TaskId;
  org: OrgId;
  project: ProjectId;
  demand: PlanTask["demand"];
  priority: number;
  submittedMs: number;
  stopGraceMs: number;
  more?: Partial<PlanTask>;
}): PlanTask {
  const { more, ...task } = of;
  return {
    ...plainTask,
    ...task,
    epoch: 0,
    notBeforeMs: 0,
    excludedGpus: [],
    traceparent: "",
    array: undefined,
    ...more,
  };
}
