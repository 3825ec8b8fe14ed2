import type { AttemptId, NodeId, TaskId } from "@fastgpu/domain/ids";
import { askedPart, milliOfHeld } from "../gpu-part.ts";
import {
  plainTask,
  type MemberPlace,
  type Placement,
  type Plan,
  type PlanLease,
  type PlanNode,
  type PlanState,
  type PlanTask,
  type PlanUsage,
  type Preemption,
  type Rng,
} from "../plan.ts";
import { createPlanner, type Planner } from "../planner.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import type { LineView } from "./view.ts";
import { withLease, withoutAttempt, withoutReserved, withReserved, withStopping } from "./lease.ts";

/** How long attempts are taken to last, in milliseconds. */
export interface Lengths {
  /** When an attempt that runs at the beginning ends; Infinity: never. */
  endMs(lease: PlanLease): number;
  /** How long an attempt (of an array: one element) of a waiting task holds its resources. */
  runMs(task: PlanTask): number;
  /** From a victim's stop signal to its end. */
  stopMs(lease: PlanLease): number;
}

/** What a future starts from. */
export interface FutureInput {
  readonly state: PlanState;
  readonly nowMs: number;
  readonly policy: SchedulingPolicy;
  readonly rng: Rng;
  readonly lengths: Lengths;
  /**
   * What plans; default: one of its own. One that is given keeps what it knows of the fleet and of arrivals, so it is for
   * futures of the same tasks that make a few turns each.
   */
  readonly planner?: Planner;
  readonly bounds?: Bounds;
  /** The plan of this moment, where it is known. */
  readonly first?: Plan | undefined;
  /** What plans look at; default: all that waits. */
  readonly view?: LineView | undefined;
  /** A task that plans look at wherever it stands in line. */
  readonly asked?: TaskId | undefined;
}

/** How far a forecast goes. Default: the fixed bounds alone. */
export interface Bounds {
  /** Asked after each turn: false ends it. */
  readonly goOn?: (() => boolean) | undefined;
  /** For how many more turns there is time after so many; Infinity: nobody waits. */
  readonly turnsLeft?: ((turns: number) => number) | undefined;
  /** For how many turns there is time if each takes far less than the first; Infinity: nobody waits. */
  readonly turnsAtBest?: (() => number) | undefined;
  /** About when the task starts, where turns do not get there; Infinity: not known. Asked once. Default: not known. */
  readonly about?: (() => number) | undefined;
}

/** Where and when a task starts. */
export interface Start {
  readonly atMs: number;
  /** Member i has rank i. */
  readonly members: readonly MemberPlace[];
  /** Node whose lease ended last before it; undefined where it starts without waiting for one. */
  readonly freedOn: NodeId | undefined;
  /** Attempts that are stopped for it. */
  readonly stops: readonly AttemptId[];
}

/** When a task starts if attempts last as long as they are taken to. */
export type Forecast =
  | ({ readonly kind: "starts" } & Start)
  /** Not even once everything has ended. */
  | { readonly kind: "never" }
  /** Too far ahead to be followed plan by plan within the bounds: by the work before it (rough.ts). */
  | { readonly kind: "about"; readonly atMs: number }
  /** That far ahead, and something before it has no known end. */
  | { readonly kind: "unknown" };

/** When a task starts, exactly or about; undefined: never, or not known. */
export function timeOf(forecast: Forecast): number | undefined {
  return forecast.kind === "starts" || forecast.kind === "about" ? forecast.atMs : undefined;
}

/** Turns that a forecast goes through at most. */
const maxTurns = 4_000;
/**
 * After so many turns (sooner where there is time for so few) it can be told whether the others are worth their time: not
 * where it takes so many times as many.
 */
const tellingTurns = 4;
const hopeless = 1.5;
/** Where running work may be stopped for other work, a plan may change without any end: it is made anew so often. */
const tickMs = 600_000;

const plannedPrefix = "att-planned-";

/** Whether an attempt of a future's state was not there at the beginning. */
export function isPlanned(attempt: AttemptId): boolean {
  return attempt.startsWith(plannedPrefix);
}

interface End {
  readonly atMs: number;
  readonly attempt: AttemptId;
}

/** What an attempt of the future holds. */
interface Attempt {
  readonly nodes: Set<NodeId>;
  /** The lease of its first member. */
  readonly lease: PlanLease;
  /** The task that waited for it; undefined for what ran from the beginning. */
  readonly task: PlanTask | undefined;
  /** It was stopped for another: its work waits again. */
  stopped: boolean;
  /** Of several that were told, the one that holds. */
  end: End | undefined;
}

/**
 * Follows the planner itself into the future, on a copy of the state: attempts end one after the other, each as long
 * as it is taken to last, and after each end the planner plans; what it places runs, what it stops ends and waits
 * again. Nobody submits anything new, and nothing fails.
 */
export class Future {
  /** First starts of tasks that waited. */
  readonly started = new Map<TaskId, Start>();
  /** Present moment of this future. */
  nowMs: number;
  private readonly input: FutureInput;
  private planner: Planner | undefined;
  private readonly nodes: Map<NodeId, PlanNode>;
  private readonly waiting: Map<TaskId, PlanTask>;
  private usage: readonly PlanUsage[];
  private readonly attempts = new Map<AttemptId, Attempt>();
  private readonly stopsFor = new Map<TaskId, AttemptId[]>();
  /** Tasks for which GPUs are kept where they go on. */
  private readonly moving = new Set<TaskId>();
  /** By time, the next one last. */
  private ends: End[] = [];
  private freedOn: NodeId | undefined;
  private made = 0;
  private turns = 0;
  /** Whether this moment is planned. */
  private planned = false;

  constructor(input: FutureInput) {
    this.input = input;
    this.nowMs = input.nowMs;
    const { state } = input;
    this.nodes = new Map(state.nodes.map((node) => [node.id, node]));
    this.waiting = new Map(state.tasks.map((task) => [task.id, task]));
    this.usage = state.usage;
    for (const node of state.nodes) {
      for (const lease of node.running) {
        const known = this.attempts.get(lease.attempt);
        if (known !== undefined) {
          known.nodes.add(node.id);
          continue;
        }
        const nodes = new Set([node.id]);
        const end = { atMs: input.lengths.endMs(lease), attempt: lease.attempt };
        this.attempts.set(lease.attempt, { nodes, lease, task: undefined, stopped: false, end });
        this.ends.push(end);
      }
    }
    this.ends = this.ends.filter(({ atMs }) => atMs < Infinity).sort((a, b) => b.atMs - a.atMs);
  }

  /** The state at this moment. */
  state(): PlanState {
    return {
      ...this.input.state,
      nodes: [...this.nodes.values()],
      tasks: [...this.waiting.values()],
      usage: this.usage,
    };
  }

  /** Plans once and applies the plan. */
  turn(): Plan {
    const plan = this.plan();
    for (const placement of plan.placements) this.start(placement);
    for (const preemption of plan.preemptions) this.stop(preemption);
    this.turns++;
    this.planned = true;
    return plan;
  }

  private plan(): Plan {
    const { input } = this;
    const { policy, rng, first, view, asked } = input;
    if (this.turns === 0 && first !== undefined) return first;
    const seen = (state: PlanState): PlanState => view?.of(state, asked) ?? state;
    if (this.planner === undefined) {
      this.planner = input.planner ?? createPlanner({ policy, rng, reasons: false });
      // What it learns from that plan counts for those to come.
      if (this.turns > 0) this.planner.plan(seen(input.state), input.nowMs);
    }
    return this.planner.plan(seen(this.state()), this.nowMs);
  }

  /** Goes on until the task starts, nothing more happens, or the bounds are reached. */
  until(task: TaskId, bounds: Bounds = this.input.bounds ?? {}): Forecast {
    let known: number | undefined;
    const about = (): number => (known ??= bounds.about?.() ?? Infinity);
    while (this.turns < maxTurns) {
      // Not even one where there is no time left for it, and something to tell without.
      const late = this.turns === 0 && bounds.about !== undefined && bounds.goOn?.() === false;
      if (late || (this.turns === 0 && this.isHopeless(bounds, about))) break;
      if (!this.planned) this.turn();
      const start = this.started.get(task);
      if (start !== undefined) return { kind: "starts", ...start };
      if (bounds.goOn?.() === false || this.isTooFar(bounds, about)) break;
      if (!this.advance()) return { kind: "never" };
    }
    // Whole milliseconds, as all times are.
    const atMs = Math.ceil(Math.max(this.nowMs, about()));
    return atMs < Infinity ? { kind: "about", atMs } : { kind: "unknown" };
  }

  /** Whether there is by far not enough time for the turns that it takes to get to about a time. */
  private isTooFar(bounds: Bounds, about: () => number): boolean {
    if (this.isHopeless(bounds, about)) return true;
    const left = bounds.turnsLeft?.(this.turns) ?? Infinity;
    const passedMs = this.nowMs - this.input.nowMs;
    if (left === Infinity || passedMs <= 0) return false;
    if (this.turns < tellingTurns && left > tellingTurns) return false;
    const toGoMs = about() - this.nowMs;
    return toGoMs < Infinity && (toGoMs * this.turns) / passedMs > hopeless * left;
  }

  /** The same as can be told of what runs at the beginning, whatever a turn takes. */
  private isHopeless({ turnsAtBest }: Bounds, about: () => number): boolean {
    const atBest = turnsAtBest?.() ?? Infinity;
    return atBest < Infinity && this.leastTurnsTo(about()) > hopeless * atBest;
  }

  /** Each moment at which something that runs ends takes a turn. */
  private leastTurnsTo(atMs: number): number {
    let turns = 0;
    let lastMs = -Infinity;
    for (let at = this.ends.length - 1; at >= 0 && this.ends[at]!.atMs < atMs; at--) {
      if (this.ends[at]!.atMs > lastMs) turns++;
      lastMs = this.ends[at]!.atMs;
    }
    return turns;
  }

  /** Goes on to the next moment at which something changes; false: there is none. */
  advance(): boolean {
    const toMs = this.nextMs();
    if (toMs === undefined) return false;
    this.planned = false;
    this.usage = aged(this.usage, {
      byMs: toMs - this.nowMs,
      halfLifeMs: this.input.policy.usage.halfLifeMs,
      nodes: this.nodes.values(),
    });
    this.nowMs = toMs;
    for (let end = this.nextEnd(); end !== undefined && end.atMs <= toMs; end = this.nextEnd()) {
      this.ends.pop();
      this.end(end.attempt);
    }
    return true;
  }

  /** The first end that still holds: what is stopped does not get to the one it had. */
  private nextEnd(): End | undefined {
    for (;;) {
      const end = this.ends.at(-1);
      if (end === undefined || this.attempts.get(end.attempt)?.end === end) return end;
      this.ends.pop();
    }
  }

  private nextMs(): number | undefined {
    let next = this.nextEnd()?.atMs ?? Infinity;
    for (const task of this.waiting.values()) {
      if (task.notBeforeMs > this.nowMs) next = Math.min(next, task.notBeforeMs);
    }
    for (const { startMs, endMs } of this.input.state.reservations) {
      for (const at of [startMs, endMs]) if (at > this.nowMs) next = Math.min(next, at);
    }
    if (next < Infinity && this.waiting.size > 0 && this.mayStop()) {
      next = Math.min(next, this.nowMs + tickMs);
    }
    return next === Infinity ? undefined : next;
  }

  /** Whether something that runs may be stopped for something else. */
  private mayStop(): boolean {
    if (!this.input.policy.preemption.enabled) return false;
    for (const { lease } of this.attempts.values()) if (lease.preemptible) return true;
    return false;
  }

  private start({ task: planned, elements, members }: Placement): void {
    const task = this.waiting.get(planned.id);
    if (task === undefined) return;
    const attempt = `${plannedPrefix}${this.made++}` as AttemptId;
    // Elements of an array run one after the other on their lease.
    const turns = task.array === undefined ? 1 : elements;
    const endsByMs = this.nowMs + turns * this.input.lengths.runMs(task);
    for (const [member, { node: id, gpus, part }] of members.entries()) {
      const node = this.nodes.get(id);
      if (node === undefined) continue;
      const at = { gpus, part, nowMs: this.nowMs, endsByMs, attempt, member };
      this.nodes.set(id, withLease(node, task, at));
    }
    const nodes = new Set(members.map(({ node }) => node));
    const first = this.nodes.get(members[0]?.node as NodeId)?.running.at(-1);
    const end = { atMs: endsByMs, attempt };
    if (first !== undefined)
      this.attempts.set(attempt, { nodes, lease: first, task, stopped: false, end });
    this.ended(end);
    this.leave(task, elements);
    if (this.stopsFor.has(task.id) || this.moving.delete(task.id)) {
      for (const [id, node] of this.nodes) this.nodes.set(id, withoutReserved(node, task.id));
    }
    if (!this.started.has(task.id)) {
      const stops = this.stopsFor.get(task.id) ?? [];
      this.started.set(task.id, { atMs: this.nowMs, members, freedOn: this.freedOn, stops });
    }
  }

  /** Takes what a lease took of a task out of the line. */
  private leave(task: PlanTask, elements: number): void {
    if (task.array === undefined) {
      this.waiting.delete(task.id);
      return;
    }
    const { pending, leasesLeft } = task.array;
    const array = { pending: pending - elements, leasesLeft: leasesLeft - 1 };
    if (array.pending <= 0) this.waiting.delete(task.id);
    else this.waiting.set(task.id, { ...task, array });
  }

  private stop(preemption: Preemption): void {
    const { victim, victimTask, gpus, beside = [], movesTo, reservedFor } = preemption;
    const attempt = this.attempts.get(victim);
    if (attempt === undefined) return;
    const endsByMs = this.nowMs + this.input.lengths.stopMs(attempt.lease);
    for (const id of attempt.nodes) {
      const node = this.nodes.get(id);
      if (node !== undefined)
        this.nodes.set(id, withStopping(node, victim, { endsByMs, gpus, reservedFor }));
    }
    for (const { node: id, gpus: others } of beside) {
      const node = this.nodes.get(id);
      if (node !== undefined) this.nodes.set(id, withReserved(node, others, reservedFor));
    }
    const goesOn = movesTo && this.nodes.get(movesTo.node);
    if (movesTo !== undefined && goesOn !== undefined) {
      this.nodes.set(goesOn.id, withReserved(goesOn, movesTo.gpus, victimTask));
      this.moving.add(victimTask);
    }
    attempt.stopped = true;
    attempt.end = { atMs: endsByMs, attempt: victim };
    this.ended(attempt.end);
    this.stopsFor.set(reservedFor, [...(this.stopsFor.get(reservedFor) ?? []), victim]);
  }

  private ended(end: End): void {
    if (end.atMs === Infinity) return;
    let [low, high] = [0, this.ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle]!.atMs >= end.atMs) low = middle + 1;
      else high = middle;
    }
    this.ends.splice(low, 0, end);
  }

  private end(id: AttemptId): void {
    const attempt = this.attempts.get(id);
    if (attempt === undefined) return;
    this.attempts.delete(id);
    const again = attempt.stopped ? this.waitsAgain(attempt) : undefined;
    for (const at of attempt.nodes) {
      const node = this.nodes.get(at);
      if (node !== undefined) this.nodes.set(at, withoutAttempt(node, id));
      this.freedOn = at;
    }
    if (again !== undefined) this.waiting.set(again.id, again);
    const array = attempt.task && this.waiting.get(attempt.task.id);
    if (array?.array !== undefined) {
      const { pending, leasesLeft } = array.array;
      this.waiting.set(array.id, { ...array, array: { pending, leasesLeft: leasesLeft + 1 } });
    }
  }

  /** The work of a stopped attempt: what it was, or what can be told from what it holds. */
  private waitsAgain({ task, lease, nodes }: Attempt): PlanTask {
    const members = [...nodes].flatMap(
      (id) => this.nodes.get(id)?.running.filter(({ attempt }) => attempt === lease.attempt) ?? [],
    );
    const gpus = members.reduce((sum, member) => sum + milliOfHeld(member), 0) / 1000;
    const ranMs = this.nowMs - (lease.runningSinceMs ?? this.nowMs);
    const past = {
      attainedGpuMs: lease.attainedGpuMs + ranMs * gpus,
      preemptions: lease.preemptions + 1,
      heldMs: 0,
    };
    if (task !== undefined) return { ...task, ...past };
    const models = [...nodes].flatMap((id) => {
      const held = new Set(lease.gpus);
      return this.nodes.get(id)?.gpus.flatMap((gpu) => (held.has(gpu.id) ? [gpu.model] : [])) ?? [];
    });
    const { org, project, user, priority, submittedMs, cpuMillis, memoryMib, diskMib } = lease;
    return {
      ...plainTask,
      ...{ id: lease.task, org, project, user, priority, submittedMs, ...past },
      replicas: members.length,
      preemptible: true,
      demand: {
        runtime: "process",
        gpuCount: lease.gpus.length,
        gpuModels: [...new Set(models)],
        gpuMinMemoryMib: lease.part?.kind === "share" ? lease.part.memoryMib : 0,
        ...(lease.part === undefined ? {} : { part: askedPart(lease.part) }),
        simulatedOk: true,
        ...{ cpuMillis, memoryMib, diskMib },
      },
      epoch: 0,
      notBeforeMs: 0,
      stopGraceMs: 0,
      maxRuntimeMs: Math.max(0, lease.endsByMs - this.nowMs),
      excludedGpus: [],
      array: undefined,
    };
  }
}

/** When a task of the state starts. */
export function forecastStart(input: FutureInput, task: TaskId): Forecast {
  return new Future(input).until(task);
}

/** Every attempt lasts as long as it may. */
export const longest: Lengths = {
  endMs: (lease) => lease.endsByMs,
  runMs: (task) => task.maxRuntimeMs + task.stopGraceMs,
  stopMs: () => 30_000,
};

/** Past service as of later: what was had counts less, what runs meanwhile is added. */
function aged(
  usage: readonly PlanUsage[],
  of: { byMs: number; halfLifeMs: number; nodes: Iterable<PlanNode> },
): readonly PlanUsage[] {
  if (of.byMs === 0) return usage;
  const kept = 2 ** (-of.byMs / of.halfLifeMs);
  const byUser = new Map<string, PlanUsage>();
  const add = ({ org, project, user, gpuMs }: PlanUsage): void => {
    const key = `${project}/${user}`;
    const known = byUser.get(key)?.gpuMs ?? 0;
    byUser.set(key, { org, project, user, gpuMs: known + gpuMs });
  };
  for (const each of usage) add({ ...each, gpuMs: each.gpuMs * kept });
  for (const node of of.nodes) {
    for (const lease of node.running) {
      const { org, project, user, gpus } = lease;
      if (gpus.length === 0) continue;
      add({ org, project, user, gpuMs: (milliOfHeld(lease) / 1000) * of.byMs });
    }
  }
  return [...byUser.values()];
}
