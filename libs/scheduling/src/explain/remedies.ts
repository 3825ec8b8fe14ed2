import { milliOfHeld } from "../gpu-part.ts";
import type { ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { PlanNode, PlanReservation, PlanState, PlanTask, Rng } from "../plan.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { forecastStart, timeOf, type Bounds, type Forecast, type Lengths } from "./future.ts";
import { withoutAttempt } from "./lease.ts";
import { withLimits, type Holder, type QuotaBlock } from "./quotas.ts";
import type { RemedyField } from "./dimension.ts";
import { relaxations } from "./relaxations.ts";
import { farRemedies } from "./far.ts";
import type { RoughStarts } from "./rough.ts";
import type { Trials } from "./trials.ts";
import type { LineView } from "./view.ts";

/** Something with which the task starts, tried on a copy of the state. */
export type Remedy = {
  /** Latest start with it: now where the next cycle places it; undefined: once enough else has ended. */
  readonly startsByMs: number | undefined;
  /** Where it shortens a long wait, how both starts are known; undefined: it starts the task soon. */
  readonly start?: { readonly latest: Forecast; readonly expected: Forecast | undefined };
} & (
  | {
      /** Submit it again with other fields. */
      readonly kind: "change";
      readonly fields: readonly RemedyField[];
      /** What would be submitted. */
      readonly task: PlanTask;
    }
  /** Raise the limits of queues. */
  | { readonly kind: "limit"; readonly quotas: readonly QuotaBlock[] }
  /** Submit it in another project of the same organisation, as it is. */
  | { readonly kind: "project"; readonly project: ProjectId }
  /** End something of the same project that runs. */
  | { readonly kind: "end"; readonly holder: Holder }
  | { readonly kind: "wait"; readonly forecast: Forecast & { readonly kind: "starts" | "about" } }
);

/** What remedies are sought for. */
interface Subject {
  readonly state: PlanState;
  readonly task: PlanTask;
  readonly nowMs: number;
  readonly longest: Lengths;
  /** Other projects that it might be submitted in. */
  readonly projects?: readonly ProjectId[];
  readonly policy: SchedulingPolicy;
  readonly rng: Rng;
  /** What plans look at, and the task that they look at wherever it stands. */
  readonly view?: LineView;
  readonly asked?: TaskId;
  /** How far forecasts of the changed task go; `about` in place of what the work before it says, and
   * `most` of the time for the answer. */
  readonly within?: (
    changed: PlanTask,
    over: Partial<PlanState>,
    by?: { readonly about?: (() => number) | undefined; readonly most?: number | undefined },
  ) => Bounds;
  /** Lengths expected. */
  readonly expected?: Lengths | undefined;
  /** Rough starts; default: a shorter wait is not sought. */
  readonly rough?: RoughStarts;
}

/** What is known of it. */
interface Situation {
  readonly trials: Trials;
  /** As the next cycle leaves them to the task. */
  readonly nodes: readonly PlanNode[];
  /** As if nothing ran. */
  readonly released: readonly PlanNode[];
  readonly quotas: readonly QuotaBlock[];
  /** Of others, which it might run into. */
  readonly reservation: PlanReservation | undefined;
  readonly forecast: Forecast;
  /** Until when there is time to follow one like it; Infinity: to its end. */
  readonly reachedMs: number;
}

/** Part of the time for an answer that following one change which shortens a wait may take. */
export const farPart = 0.05;
/** Running attempts whose end is tried at most. */
const maxEnds = 8;
/** Other projects that are tried at most, and offered. */
const maxProjects = 8;
const maxProjectsTold = 2;
/** Shorter run times that are tried, in milliseconds. */
const runTimesMs = [24 * 60, 12 * 60, 8 * 60, 4 * 60, 120, 60, 30, 15, 10, 5, 1].map(
  (minutes) => minutes * 60_000,
);

/** All that would start the task, the smallest changes first, waiting last. */
export function remediesOf(of: Subject, known: Situation): Remedy[] {
  const { forecast } = known;
  const soon = [
    ...limitRemedies(of, known),
    ...projectRemedies(of, known),
    ...fieldRemedies(of, known),
    ...priorityRemedies(of, known),
    ...runTimeRemedies(of, known),
    ...loanRemedies(of, known),
    ...endRemedies(of, known),
  ].toSorted((a, b) => sizeOf(a) - sizeOf(b));
  const later = forecast.kind === "never" ? laterRemedies(of, known) : [];
  const far = soon.some(({ kind }) => kind !== "end") ? [] : shorterWaits(of, known);
  const told = new Set(soon.map(textOf));
  const wait: Remedy[] =
    forecast.kind === "starts" || forecast.kind === "about"
      ? [{ kind: "wait", forecast, startsByMs: forecast.atMs }]
      : [];
  return [...soon, ...far, ...later.filter((each) => !told.has(textOf(each))), ...wait];
}

/** How much a remedy changes: nothing of the task, where it waits, some of its fields, or somebody else's work. */
function sizeOf(remedy: Remedy): number {
  switch (remedy.kind) {
    case "limit":
      return 0;
    case "project":
      return 1;
    case "change":
      return 1 + remedy.fields.length;
    case "end":
      return 10;
    case "wait":
      return 11;
  }
}

const textOf = (remedy: Remedy): string =>
  remedy.kind === "change" ? JSON.stringify([remedy.fields, essence(remedy.task)]) : remedy.kind;
const essence = ({ demand, replicas, topology }: PlanTask) => ({ demand, replicas, topology });

/** The task as a new submission now: behind what its project submitted before. */
const again = (task: PlanTask, nowMs: number): PlanTask => ({
  ...task,
  submittedMs: Math.max(task.submittedMs, nowMs),
  heldMs: 0,
});

function fieldRemedies({ task, nowMs }: Subject, { trials, nodes }: Situation): Remedy[] {
  const fits = trials.placer(nodes);
  const starts = new Map<PlanTask, number>();
  const found = relaxations(again(task, nowMs), nodes, {
    works: fits,
    goOn: trials.goOn,
    dear: trials.dear,
    proven: (candidate) => {
      const startsByMs = trials.startsBy(candidate);
      if (startsByMs !== undefined) starts.set(candidate, startsByMs);
      return startsByMs !== undefined;
    },
  });
  return found.map(({ task: changed, fields }) => ({
    kind: "change",
    fields,
    task: changed,
    startsByMs: starts.get(changed),
  }));
}

/** What would do once enough has ended, for a task that never starts as it is. */
function laterRemedies(of: Subject, { trials, released }: Situation): Remedy[] {
  const { task, nowMs } = of;
  const found = relaxations(again(task, nowMs), released, {
    works: trials.placer(released),
    goOn: trials.goOn,
  });
  return found.flatMap(({ task: changed, fields }): Remedy[] => {
    const forecast = forecastWith(of, changed);
    if (forecast.kind === "never") return [];
    return [{ kind: "change", fields, task: changed, startsByMs: timeOf(forecast) }];
  });
}

/** What shortens a long wait, where nothing ends it. */
function shorterWaits(of: Subject, known: Situation): Remedy[] {
  const { state, task, nowMs, longest, expected, rough } = of;
  const { trials, released, forecast, reachedMs } = known;
  if (rough === undefined || forecast.kind === "never") return [];
  return farRemedies({
    ...{ state, task, nowMs, longest, expected, rough, forecast, reachedMs, released },
    again: again(task, nowMs),
    projects: othersByLoad(of).slice(0, maxProjectsTold),
    fitsOnceFree: trials.placer(released, "without queues"),
    follow: (changed, lengths, aboutMs) =>
      forecastWith(of, changed, {}, { lengths, about: () => aboutMs, most: farPart }),
    goOn: trials.goOn,
  });
}

function forecastWith(
  of: Subject,
  changed: PlanTask,
  over: Partial<PlanState> = {},
  by: { readonly lengths?: Lengths; readonly about?: () => number; readonly most?: number } = {},
): Forecast {
  const { policy, rng, longest, nowMs, view, asked } = of;
  const others = of.state.tasks.filter((each) => each.id !== changed.id);
  const state = { ...of.state, ...over, tasks: [...others, changed] };
  const bounds = of.within?.(changed, over, by) ?? {};
  const lengths = by.lengths ?? longest;
  const input = { state, nowMs, policy, rng, view, asked, lengths, bounds };
  return forecastStart(input, changed.id);
}

/** Higher limits: alone, where that starts it, or in time. */
function limitRemedies(of: Subject, { trials, quotas, forecast }: Situation): Remedy[] {
  if (quotas.length === 0) return [];
  const queues = withLimits(of.state.queues, quotas);
  const now = trials.startsBy(of.task, { queues });
  if (now !== undefined) return [{ kind: "limit", quotas, startsByMs: now }];
  const then = timeOf(forecastWith(of, of.task, { queues }));
  return then !== undefined && then < (timeOf(forecast) ?? Infinity)
    ? [{ kind: "limit", quotas, startsByMs: then }]
    : [];
}

/** Other projects in which it starts. */
function projectRemedies(of: Subject, { trials }: Situation): Remedy[] {
  const { task, nowMs } = of;
  const found: Remedy[] = [];
  for (const project of othersByLoad(of).slice(0, maxProjects)) {
    if (found.length === maxProjectsTold || !trials.goOn()) break;
    const startsByMs = trials.startsBy(again({ ...task, project }, nowMs));
    if (startsByMs !== undefined) found.push({ kind: "project", project, startsByMs });
  }
  return found;
}

/** Other projects, those that hold least for their weight first. */
function othersByLoad({ state, task, projects = [] }: Subject): ProjectId[] {
  const held = new Map<ProjectId, number>();
  for (const lease of state.nodes.flatMap((node) => node.running)) {
    held.set(lease.project, (held.get(lease.project) ?? 0) + milliOfHeld(lease));
  }
  const weights = new Map(
    state.queues.flatMap(({ project, user, weight }) =>
      project === undefined || user !== undefined ? [] : [[project, weight] as const],
    ),
  );
  const load = (project: ProjectId): number =>
    (held.get(project) ?? 0) / (weights.get(project) ?? 1);
  return projects
    .filter((project) => project !== task.project)
    .toSorted((a, b) => load(a) - load(b) || (a < b ? -1 : 1));
}

/** The lowest priority with which it goes before the others of its project. */
function priorityRemedies({ state, task, nowMs }: Subject, known: Situation): Remedy[] {
  const { trials, quotas } = known;
  const ahead = state.tasks.filter(
    (each) => each.id !== task.id && each.project === task.project && each.priority < 100,
  );
  const higher = [...new Set(ahead.map(({ priority }) => priority + 1))]
    .filter((priority) => priority > task.priority)
    .sort((a, b) => b - a);
  if (higher.length === 0 || quotas.some(({ limitGpus, wantedGpus }) => wantedGpus > limitGpus))
    return [];
  const steps = higher.map((priority) => again({ ...task, priority }, nowMs));
  return leastStep(steps, trials, "priority");
}

/** The longest run time with which it starts in front of what others are promised, or have reserved. */
function runTimeRemedies({ task, nowMs, policy }: Subject, known: Situation): Remedy[] {
  const { trials, nodes, quotas, reservation } = known;
  if (quotas.length > 0) return [];
  if (reservation === undefined) {
    if (!policy.backfill.enabled || !trials.placer(nodes)(task)) return [];
  } else if (reservation.startMs <= nowMs) return [];
  const steps = runTimesMs
    .filter((maxRuntimeMs) => maxRuntimeMs < task.maxRuntimeMs)
    .map((maxRuntimeMs) => again({ ...task, maxRuntimeMs }, nowMs))
    .reverse();
  return leastStep(steps, trials, "maxRuntimeMs");
}

/** What can be stopped may have GPUs that are reserved, until their owner has work for them. */
function loanRemedies({ task, nowMs }: Subject, known: Situation): Remedy[] {
  const { trials, quotas, reservation } = known;
  if (reservation === undefined || task.preemptible || quotas.length > 0 || !trials.goOn())
    return [];
  return leastStep([again({ ...task, preemptible: true }, nowMs)], trials, "preemptible");
}

/** Of steps from the greatest to the least, the last one that starts the task; where one does, greater ones do. */
function leastStep(steps: readonly PlanTask[], trials: Trials, field: RemedyField): Remedy[] {
  let found: Remedy | undefined;
  let low = 0;
  let high = steps.length - 1;
  for (let at = 0; low <= high && trials.goOn(); at = (low + high + 1) >> 1) {
    const task = steps[at]!;
    const startsByMs = trials.startsBy(task);
    if (startsByMs === undefined) {
      if (at === 0) return [];
      high = at - 1;
    } else {
      found = { kind: "change", fields: [field], task, startsByMs };
      low = at + 1;
    }
  }
  return found === undefined ? [] : [found];
}

/** The end of one attempt of the same project: the one with the fewest GPUs that suffices. */
function endRemedies({ state, task }: Subject, { trials }: Situation): Remedy[] {
  const leases = state.nodes.flatMap((node) => node.running);
  const own = Map.groupBy(
    leases.filter((lease) => lease.project === task.project && !lease.stopping),
    ({ attempt }) => attempt,
  );
  const holders = [...own].flatMap(([attempt, held]): Holder[] => {
    const [first] = held;
    const gpus = held.reduce((sum, lease) => sum + milliOfHeld(lease), 0) / 1000;
    if (first === undefined || (task.demand.gpuCount > 0 && gpus === 0)) return [];
    const { task: id, project, endsByMs } = first;
    return [{ attempt, task: id, project, gpus, endsByMs }];
  });
  holders.sort((a, b) => a.gpus - b.gpus || a.endsByMs - b.endsByMs);
  const tried = holders.slice(0, maxEnds);
  const without = (ended: readonly Holder[]): PlanNode[] =>
    state.nodes.map((node) =>
      ended.reduce((left, { attempt }) => withoutAttempt(left, attempt), node),
    );
  // Where not even the end of all of them would do, that of one does not.
  const dear = trials.dear && tried.length > 1 && trials.goOn();
  if (dear && trials.startsBy(task, { nodes: without(tried) }) === undefined) return [];
  for (const holder of tried) {
    if (!trials.goOn()) return [];
    const nodes = without([holder]);
    const startsByMs = trials.startsBy(task, { nodes });
    if (startsByMs !== undefined) return [{ kind: "end", holder, startsByMs }];
  }
  return [];
}
