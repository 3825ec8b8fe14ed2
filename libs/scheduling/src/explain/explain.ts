import type { ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { PlanNode, PlanReservation, PlanState, PlanTask, Rng } from "../plan.ts";
import { owns } from "../planning/estate.ts";
import { isBundled } from "../planning/places.ts";
import { createQueueOrder } from "../queue-order.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { blockersOf, type TaskFit } from "./blockers.ts";
import { Future, isPlanned, type Bounds, type Forecast, type Lengths } from "./future.ts";
import { gangFitOf, type GangFit } from "./gang-fit.ts";
import { withoutAttempt, withoutLeases } from "./lease.ts";
import { quotaBlocksOf, type QuotaBlock } from "./quotas.ts";
import { farPart, remediesOf, type Remedy } from "./remedies.ts";
import { standingsOf, type Standing } from "./standing.ts";
import { Survey } from "./survey.ts";
import { createTrials, type Trials } from "./trials.ts";

/** What an explanation starts from: one snapshot, and how long attempts last. */
export interface ExplainInput {
  readonly state: PlanState;
  /** A waiting task of the state, or one that is not submitted yet. */
  readonly task: PlanTask;
  readonly nowMs: number;
  /** How long attempts last at most. */
  readonly longest: Lengths;
  /** How long they are expected to last; undefined: nobody knows. */
  readonly expected?: Lengths | undefined;
  /** Other projects of its organisation that it might be submitted in. Default: none. */
  readonly projects?: readonly ProjectId[];
  readonly policy: SchedulingPolicy;
  readonly rng: Rng;
  /**
   * Asked before each turn of a forecast and each try: false leaves it at what is known. True as long as no more than
   * this part of the time for the answer is used up, so that one forecast does not take all of it.
   */
  readonly goOn?: (part: number) => boolean;
  /** Part of the time for the answer that is used up: forecasts are told roughly where there is too little left. */
  readonly spent?: () => number;
  /** Of the state with the task: what was worked out already for others; default: one of its own. */
  readonly survey?: Survey | undefined;
}

/** By when each piece of an answer ends, as parts of its time. */
const parts = { latest: 0.6, remedies: 0.85, expected: 1 } as const;

/** Where a task stands, and what would help. */
export interface Explanation {
  /** The task with each node, as the next cycle leaves them to it. */
  readonly fit: TaskFit;
  /** For a gang: how many members would find a place. */
  readonly gang: GangFit | undefined;
  /** Limits that keep it waiting, the project's first. */
  readonly quotas: readonly QuotaBlock[];
  /** The reservation of others that it might run into if it started now. */
  readonly reservation: PlanReservation | undefined;
  /** Nodes have room for it, which is kept for the reserved start of others or for a time in the future. */
  readonly heldBack: boolean;
  /** 1: nothing that waits goes before it. */
  readonly queuePosition: number;
  /** Tasks that wait, itself included. */
  readonly queueLength: number;
  /** The queues that it counts for: its project's, then its organisation's. */
  readonly queues: readonly Standing[];
  /** False where it would fit no node even if nothing else ran. */
  readonly fitsOnceFree: boolean;
  /** Earliest start: now, or the end of its pause, as any lease may end at any moment; undefined: never. */
  readonly earliestMs: number | undefined;
  /** Latest start, and where: every attempt lasts as long as it may. */
  readonly forecast: Forecast;
  /** The same with the lengths expected. */
  readonly expected: Forecast | undefined;
  /** Smallest changes first, waiting last. */
  readonly remedies: readonly Remedy[];
}

/** Explains a task: pure, and everything offered was tried with the planner itself. */
export function explainTask(input: ExplainInput): Explanation {
  const { task, rng } = input;
  const nowMs = Math.max(input.nowMs, task.notBeforeMs);
  const others = input.state.tasks.filter((each) => each.id !== task.id);
  const state = { ...input.state, tasks: [...others, task] };
  const { goOn = () => true, longest, expected } = input;
  const survey = input.survey ?? new Survey({ ...input, state });
  const { rough, view } = survey;
  const first = nowMs === input.nowMs ? survey.plan : undefined;
  const timing = { ...input, turnPart: survey.planPart };
  const within: NonNullable<Parameters<typeof remediesOf>[0]["within"]> = (changed, over, by) => {
    const about = by?.about ?? ((): number => rough.latest(changed, longest, over));
    const until = Math.min(parts.remedies, (input.spent?.() ?? 0) + (by?.most ?? 1));
    return boundsOf(timing, until, about);
  };
  const common = { state, policy: input.policy, rng, view, asked: task.id };
  const subject = { ...input, ...common, nowMs, goOn: () => goOn(parts.remedies), within, rough };
  const next = new Future({ ...common, nowMs, first, lengths: input.longest });
  const stops = next.turn().preemptions.some(({ reservedFor }) => reservedFor === task.id);
  const starts = next.started.has(task.id);
  const nodes = next.state().nodes.map((node) => withoutPlaces(node, task.id));
  const trials = createTrials({ ...subject, nodes });
  const released = state.nodes.map(withoutLeases);
  const fitsOnceFree = trials.placer(released, "without queues")(task);
  const latest = fitsOnceFree
    ? // A pause would be over in the next cycle that was played.
      nowMs === input.nowMs
      ? next
      : new Future({ ...common, nowMs: input.nowMs, lengths: input.longest })
    : undefined;
  const inTime = boundsOf(timing, parts.latest, () => rough.latest(task, longest));
  const before = input.spent?.() ?? 0;
  const forecast = latest?.until(task.id, inTime) ?? never;
  const took = (input.spent?.() ?? 0) - before;
  const quotas = starts ? [] : quotaBlocksOf({ ...state, nodes }, task);
  const reservation = starts
    ? undefined
    : (createQueueOrder({ ...state, nodes }, input.policy).reservation(task, nowMs) ??
      placesInTheWay(state, { task, trials, nowMs }));
  const possible = fitsOnceFree && task.array?.leasesLeft !== 0;
  const waits = !starts && !stops && task.array?.leasesLeft !== 0;
  const isFollowed = forecast.kind !== "about" && forecast.kind !== "unknown";
  // In the time for a change that shortens the wait it would have got so far.
  const part = Math.min(1, farPart / took);
  const reachedMs = isFollowed ? Infinity : nowMs + part * ((latest?.nowMs ?? nowMs) - nowMs);
  const situation = { trials, nodes, released, quotas, reservation, forecast, reachedMs };
  // Before the expected start: what would help matters more.
  const remedies = waits ? remediesOf(subject, situation) : [];
  return {
    fit: blockersOf(task, nodes, rng),
    gang: task.replicas > 1 ? gangFitOf(task, trials) : undefined,
    quotas,
    reservation,
    heldBack: waits && quotas.length === 0 && trials.placer(nodes)(task),
    queuePosition: survey.positionOf(task),
    queueLength:
      state.tasks.length + (state.behind ?? []).reduce((sum, each) => sum + each.tasks, 0),
    queues: standingsOf(state, task),
    fitsOnceFree,
    earliestMs: possible && !isOutOfReach(quotas) ? nowMs : undefined,
    forecast,
    expected:
      expected === undefined || !fitsOnceFree
        ? undefined
        : new Future({ ...common, nowMs: input.nowMs, first, lengths: expected }).until(
            task.id,
            boundsOf(timing, parts.expected, () => rough.start(task, expected)),
          ),
    remedies,
  };
}

/** The reservation of several GPUs on one node each that, as was tried, alone keeps a task from starting. */
const placesInTheWay = (
  { reservations }: PlanState,
  of: { task: PlanTask; trials: Trials; nowMs: number },
): PlanReservation | undefined =>
  reservations.find((each) => {
    if (!isBundled(each) || each.endMs <= of.nowMs || owns(each, of.task)) return false;
    const others = reservations.filter((other) => other !== each);
    return of.trials.startsBy(of.task, { reservations: others }) !== undefined;
  });

const never: Forecast = { kind: "never" };

/** Whether a limit is too low for the task even where nothing is held. */
const isOutOfReach = (quotas: readonly QuotaBlock[]): boolean =>
  quotas.some(({ wantedGpus, limitGpus }) => wantedGpus > limitGpus);

/** Turns are reckoned with once they have taken so much of an answer's time: the first ones of a process are slow. */
const tellingPart = 0.05;
/** A first plan that takes so much of it tells of those to come: they take a fifth of it at best. */
const slowPart = 0.01;
const firstOverLater = 5;

/** The bounds of a forecast that begins now and has until a part of the time is used up; then it is told roughly. */
export function boundsOf(
  of: Pick<ExplainInput, "goOn" | "spent"> & {
    /** Part of the time that one plan took, a first one. */
    readonly turnPart?: number | undefined;
  },
  part: number,
  about: () => number,
): Bounds {
  const { goOn = () => true, spent = () => 0, turnPart = 0 } = of;
  const before = spent();
  let first: number | undefined;
  return {
    goOn: () => goOn(part),
    about,
    turnsAtBest: () =>
      turnPart < slowPart ? Infinity : (firstOverLater * (part - spent())) / turnPart,
    turnsLeft: (turns) => {
      first ??= turns;
      const used = spent();
      // The last of them must not be late.
      return turns > first && used > before + tellingPart
        ? ((part - used) * (turns - first)) / (used - before) - 1
        : Infinity;
    },
  };
}

/** The node without the places that the next cycle gives the task. */
function withoutPlaces(node: PlanNode, task: TaskId): PlanNode {
  const own = node.running.filter((lease) => lease.task === task && isPlanned(lease.attempt));
  return own.reduce((left, { attempt }) => withoutAttempt(left, attempt), node);
}
