import type { PlanNode, PlanState, PlanTask } from "../plan.ts";
import type { RemedyField } from "./dimension.ts";
import { timeOf, type Forecast, type Lengths } from "./future.ts";
import type { Remedy } from "./remedies.ts";
import type { RoughStarts } from "./rough.ts";

/** What a shorter wait is sought for. */
interface FarSubject {
  readonly state: PlanState;
  /** As it waits. */
  readonly task: PlanTask;
  /** As it would be submitted now. */
  readonly again: PlanTask;
  readonly nowMs: number;
  /** Its latest start as it is. */
  readonly forecast: Forecast;
  readonly longest: Lengths;
  readonly expected?: Lengths | undefined;
  readonly rough: RoughStarts;
  /** Other projects that it might be submitted in, the best first. */
  readonly projects: readonly PlanTask["project"][];
  /** Nodes as if nothing ran. */
  readonly released: readonly PlanNode[];
  /** Whether the fleet could hold a task if nothing else ran. */
  readonly fitsOnceFree: (task: PlanTask) => boolean;
  /**
   * When a changed task starts, followed by the planner on a copy of the state as far as there is time, else about then
   * as is given.
   */
  readonly follow: (changed: PlanTask, lengths: Lengths, aboutMs: number) => Forecast;
  /** Until when there is time to follow one change, as far as following it as it is has told. Infinity: to its start. */
  readonly reachedMs: number;
  readonly goOn: () => boolean;
}

/** A wait is long from here on, in milliseconds. */
const longMs = 4 * 3_600_000;
/** Changes whose starts are worked out at most, and of which the best are followed and told. */
const maxTried = 12;
const maxTold = 2;
/** A change is worth telling that leaves at most this part of the wait. */
const worthwhile = 0.8;
/** Run times that are tried, in milliseconds. */
const runTimesMs = [4 * 60, 60, 15].map((minutes) => minutes * 60_000);

interface Candidate {
  readonly kind: "change" | "project";
  readonly fields: readonly RemedyField[];
  readonly task: PlanTask;
}

/**
 * Changes with which a task that waits long waits least, the best first. Which they are is told by rough starts, all in one
 * flow of the line; each that is told is one that the fleet can hold, and was followed by the planner itself, as far as
 * there is time for its plans.
 */
export function farRemedies(of: FarSubject): Remedy[] {
  const { task, nowMs, forecast, rough, longest, expected } = of;
  const latestMs = timeOf(forecast) ?? Infinity;
  if (latestMs - nowMs < longMs || task.demand.gpuCount === 0 || !of.goOn()) return [];
  const candidates = candidatesOf(of)
    .filter(({ task: changed }) => of.fitsOnceFree(changed))
    .slice(0, maxTried);
  const lengths = expected ?? longest;
  const starts = rough.instead(task, candidates, lengths);
  const mostMs = nowMs + worthwhile * (starts.asItIs - nowMs);
  const best = candidates
    .map((candidate, at) => ({ ...candidate, startMs: starts.changed[at]! }))
    .filter(({ startMs }) => startMs <= mostMs && startMs < Infinity)
    .toSorted((a, b) => a.startMs - b.startMs)
    .slice(0, maxTold);
  if (best.length === 0) return [];
  const latest = rough.latestInstead(task, best, longest);
  const tell = (changed: PlanTask, by: Lengths, atMs: number): Forecast =>
    atMs > of.reachedMs
      ? { kind: "about", atMs: Math.ceil(Math.max(nowMs, atMs)) }
      : of.follow(changed, by, atMs);
  return best.flatMap((candidate, at): Remedy[] => {
    const followed = tell(candidate.task, longest, latest[at]!);
    const startsByMs = timeOf(followed);
    // What the planner itself finds no better is none.
    if (startsByMs === undefined || startsByMs > nowMs + worthwhile * (latestMs - nowMs)) return [];
    const likely = expected && tell(candidate.task, expected, candidate.startMs);
    const start = { startsByMs, start: { latest: followed, expected: likely } };
    return candidate.kind === "project"
      ? [{ kind: "project", project: candidate.task.project, ...start }]
      : [{ kind: "change", fields: candidate.fields, task: candidate.task, ...start }];
  });
}

/** Smaller changes first, of each kind the ones that mostly do the most. */
function candidatesOf(of: FarSubject): Candidate[] {
  const { again } = of;
  const { demand, replicas, topology, maxRuntimeMs, preemptible } = again;
  const change = (field: RemedyField, ...tasks: PlanTask[]): Candidate[] =>
    tasks.map((task) => ({ kind: "change", fields: [field], task }));
  const ask = (over: Partial<PlanTask["demand"]>): PlanTask => ({
    ...again,
    demand: { ...demand, ...over },
  });
  const isPinned = topology.within !== undefined || topology.spreadOver !== undefined;
  const fewer = [...new Set([Math.ceil(demand.gpuCount / 2), Math.ceil(demand.gpuCount / 4)])];
  const most = priorityOver(of);
  return [
    ...change(
      "gpuModels",
      ...otherModels(of).map((model) => ask({ gpuModels: [...demand.gpuModels, model] })),
    ),
    ...(preemptible ? [] : change("preemptible", { ...again, preemptible: true })),
    ...(most === undefined ? [] : change("priority", { ...again, priority: most })),
    ...change(
      "maxRuntimeMs",
      ...runTimesMs.filter((ms) => ms < maxRuntimeMs).map((ms) => ({ ...again, maxRuntimeMs: ms })),
    ),
    ...(isPinned ? change("topology", { ...again, topology: {} }) : []),
    ...(replicas > 1 ? change("replicas", { ...again, replicas: Math.ceil(replicas / 2) }) : []),
    ...(replicas > 1 || demand.part !== undefined
      ? []
      : change(
          "gpuCount",
          ...fewer.filter((n) => n < demand.gpuCount).map((gpuCount) => ask({ gpuCount })),
        )),
    ...of.projects.map((project): Candidate => ({
      kind: "project",
      fields: [],
      task: { ...again, project },
    })),
  ];
}

/** Other models of the fleet, of which there are most first. */
function otherModels({ again, released }: FarSubject): string[] {
  const { gpuModels } = again.demand;
  if (gpuModels.length === 0) return [];
  const counts = new Map<string, number>();
  for (const { model } of released.flatMap(({ gpus }) => gpus)) {
    if (!gpuModels.includes(model)) counts.set(model, (counts.get(model) ?? 0) + 1);
  }
  const most = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  return most.slice(0, 2).map(([model]) => model);
}

/** The least priority with which it goes before all others of its project; undefined: it does already, or cannot. */
function priorityOver({ state, again }: FarSubject): number | undefined {
  let highest = again.priority - 1;
  for (const { id, project, priority } of state.tasks) {
    if (id !== again.id && project === again.project) highest = Math.max(highest, priority);
  }
  return highest >= again.priority && highest < 100 ? highest + 1 : undefined;
}
