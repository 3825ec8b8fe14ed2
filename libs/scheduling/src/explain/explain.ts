import type { NodeId, TaskId } from "@fastgpu/domain/ids";
import type { PolicyName } from "../placement/engine.ts";
import type { Demand, PlanNode, PlanState, PlanTask, Rng } from "../plan.ts";
import { emptyFleet, inOrder } from "../planner.ts";
import { blockersOf, type TaskFit } from "./blockers.ts";
import { forecastStart, nodesBefore, startsNow, type Forecast } from "./forecast.ts";
import { withoutLeases } from "./lease.ts";
import { relaxations, type RemedyField } from "./remedies.ts";

/** What an explanation starts from: one snapshot, and how long leases may last. */
export interface ExplainInput {
  readonly state: PlanState;
  /** A waiting task of the state, or one that is not submitted yet. */
  readonly task: PlanTask;
  readonly nowMs: number;
  /** Latest end of each lease of a node, in the order of its `running`. */
  readonly endsByMs: ReadonlyMap<NodeId, readonly number[]>;
  /** Longest time that one attempt (of an array: one element) of a waiting task may hold its resources. */
  readonly maxRunMs: (task: TaskId) => number;
  readonly policy: PolicyName;
  readonly rng: Rng;
  /** Asked before each turn of a forecast: false leaves it at what is known. */
  readonly goOn?: () => boolean;
}

/** A change with which the task starts, tried on a copy of the state; without a change: to wait. */
export interface Remedy {
  readonly fields: readonly RemedyField[];
  /** What the task would ask for. */
  readonly demand: Demand;
  /** Latest start with it: now where the next cycle places it; undefined where it fits once enough else has ended. */
  readonly startsByMs: number | undefined;
}

/** Where a task stands, and what would help. */
export interface Explanation {
  readonly fit: TaskFit;
  /** 1: nothing that waits goes before it. */
  readonly queuePosition: number;
  /** Tasks that wait, itself included. */
  readonly queueLength: number;
  /** False where it would fit no node even if nothing else ran. */
  readonly fitsOnceFree: boolean;
  /** Earliest start: now, or the end of its pause, as any lease may end at any moment; undefined: never. */
  readonly earliestMs: number | undefined;
  /** Latest start, and where; its upper bound rests on the longest run time of what runs and waits before it. */
  readonly forecast: Forecast;
  /** Smallest changes first to start, then waiting. */
  readonly remedies: readonly Remedy[];
}

/** Explains a task: pure, and everything offered was tried with the planner itself. */
export function explainTask(input: ExplainInput): Explanation {
  const { task, state, rng } = input;
  const nowMs = Math.max(input.nowMs, task.notBeforeMs);
  const tasks = inOrder([...state.tasks.filter((each) => each.id !== task.id), task]);
  const at = tasks.findIndex((each) => each.id === task.id);
  const next = { ...input, nowMs, nodes: state.nodes, tasks };
  const nodes = at === 0 ? state.nodes : nodesBefore(next, task.id);
  const released = state.nodes.map(withoutLeases);
  const fitsOnceFree = fits(input, released)(task.demand);
  const forecast = forecastOf(input, tasks, task);
  const waits = forecast.kind !== "starts" || forecast.atMs > nowMs;
  return {
    fit: blockersOf(task, nodes, rng),
    queuePosition: at + 1,
    queueLength: tasks.length,
    fitsOnceFree,
    earliestMs: fitsOnceFree && !atItsLimit(task) ? nowMs : undefined,
    forecast,
    remedies:
      waits && !atItsLimit(task)
        ? remediesOf(input, { tasks, nodes, released, nowMs, fitsOnceFree, forecast })
        : [],
  };
}

const atItsLimit = (task: PlanTask): boolean => task.array?.leasesLeft === 0;

/** When a task of these starts. */
function forecastOf(input: ExplainInput, tasks: readonly PlanTask[], task: PlanTask): Forecast {
  return forecastStart({ ...input, nodes: input.state.nodes, tasks }, task.id);
}

/** Whether the task would be placed on these nodes with another demand. */
function fits({ task, policy, rng }: ExplainInput, nodes: readonly PlanNode[]) {
  const fleet = emptyFleet({ policy, rng });
  fleet.sync(nodes);
  return (demand: Demand): boolean => {
    const trial = fleet.trial();
    const place = trial.place({ ...task, demand });
    trial.undo();
    return place !== undefined;
  };
}

interface Situation {
  readonly tasks: readonly PlanTask[];
  readonly nodes: readonly PlanNode[];
  readonly released: readonly PlanNode[];
  readonly nowMs: number;
  readonly fitsOnceFree: boolean;
  readonly forecast: Forecast;
}

function remediesOf(input: ExplainInput, of: Situation): Remedy[] {
  const { task } = input;
  const changed = (demand: Demand): PlanTask[] =>
    of.tasks.map((each) => (each.id === task.id ? { ...task, demand } : each));
  const remedies: Remedy[] = [];
  for (const { demand, fields } of relaxations(task.demand, of.nodes, fits(input, of.nodes))) {
    const next = { ...input, nowMs: of.nowMs, nodes: input.state.nodes, tasks: changed(demand) };
    if (startsNow(next, task.id)) remedies.push({ fields, demand, startsByMs: of.nowMs });
  }
  if (!of.fitsOnceFree) {
    const known = new Set(remedies.map(({ demand }) => JSON.stringify(demand)));
    const later = relaxations(task.demand, of.released, fits(input, of.released));
    for (const { demand, fields } of later) {
      if (known.has(JSON.stringify(demand))) continue;
      const forecast = forecastOf(input, changed(demand), { ...task, demand });
      if (forecast.kind === "never") continue;
      const startsByMs = forecast.kind === "starts" ? forecast.atMs : undefined;
      remedies.push({ fields, demand, startsByMs });
    }
  }
  if (of.forecast.kind === "starts")
    remedies.push({ fields: [], demand: task.demand, startsByMs: of.forecast.atMs });
  return remedies;
}
