import type { TaskId } from "@fastgpu/domain/ids";
import { decide, type DecideOptions, type Decision } from "./order/decide.ts";
import type { Slot } from "./order/jobs.ts";
import type { LearnedMix } from "./placement/mix.ts";
import {
  maxElementsPerLease,
  type MemberPlace,
  type Placement,
  type Plan,
  type PlanState,
  type PlanTask,
  type Preemption,
  type Rng,
  type WaitReason,
} from "./plan.ts";
import { wouldFit } from "./planning/confined.ts";
import { Budget } from "./planning/budget.ts";
import { Crew } from "./planning/crew.ts";
import { proposeMoves } from "./planning/consolidate.ts";
import { Expectations } from "./planning/expectations.ts";
import { emptyFleet, type Fleet } from "./planning/fleet.ts";
import { Ground } from "./planning/ground.ts";
import { createLine, ranksById, type Line } from "./planning/line.ts";
import {
  backoff,
  CapacityReasons,
  keptForReservation,
  makingRoom,
  parallelismReached,
  quotaReached,
} from "./planning/reasons.ts";
import { Owners } from "./planning/owners.ts";
import { PlanRoom } from "./planning/room.ts";
import type { SchedulingPolicy } from "./scheduling-policy.ts";

/** Plans cycle after cycle. It remembers the fleet, so that a cycle costs what has changed, and the arrivals seen. */
export interface Planner {
  /**
   * Decides one cycle: synchronous, no clock, no IO. Who goes next is the order's decision (order/decide.ts) within
   * what queues and reservations leave (planning/budget.ts); where each goes is the placement engine's; who must stop
   * for whom, and whose start is reserved, both together's (planning/room.ts). What does not start gets its reason.
   * With `upTo` it goes no further than needed to tell whether that task starts: the plan is good for it alone.
   */
  plan(state: PlanState, now: number, upTo?: TaskId): Plan;
  /** Plans by another policy from the next cycle on. What was learned of arrivals is kept. */
  setPolicy(policy: SchedulingPolicy): void;
  /** What was learned of arrivals, as plain data: a new planner that is given it goes on from there. */
  learned(): Learned;
}

/** What a planner has learned. */
export interface Learned {
  readonly mix: LearnedMix;
  /** Tasks that are counted in it, the earliest first; the oldest may be forgotten. */
  readonly seen: readonly string[];
}

/** A planner without a fleet. */
export function createPlanner(options: {
  policy: SchedulingPolicy;
  rng: Rng;
  learned?: Learned | undefined;
  /** False: plans do not say why tasks wait, which takes a good part of a plan. */
  reasons?: boolean;
}): Planner {
  const { rng, reasons = true } = options;
  let { policy } = options;
  const owners = new Owners();
  const start = (learned: LearnedMix | undefined): Memory => {
    const fleet = emptyFleet({ policy: policy.placement, rng, learned });
    return { fleet, crew: new Crew(fleet), capacity: new CapacityReasons(fleet), owners };
  };
  let memory = start(options.learned?.mix);
  const seen = new Set(options.learned?.seen);
  // Kept as long as the list is the same.
  let known: { runTimes: PlanState["runTimes"]; expectations: Expectations } | undefined;
  const expectationsOf = ({ runTimes }: PlanState): Expectations => {
    const use = policy.backfill.predict ? runTimes : undefined;
    if (known?.runTimes !== use) known = undefined;
    known ??= { runTimes: use, expectations: new Expectations(use ?? []) };
    return known.expectations;
  };
  // The same.
  let ranked: { list: PlanState["ranks"]; ranks: ReadonlyMap<TaskId, number> } | undefined;
  const ranksOf = ({ ranks: list }: PlanState): ReadonlyMap<TaskId, number> => {
    if (ranked?.list !== list) ranked = undefined;
    ranked ??= { list, ranks: ranksById(list) };
    return ranked.ranks;
  };
  return {
    setPolicy(next) {
      const { placement } = policy;
      policy = next;
      if (next.placement !== placement) memory = start(memory.fleet.free.mix.learned());
    },
    learned: () => ({ mix: memory.fleet.free.mix.learned(), seen: [...seen] }),
    plan(state, now, upTo) {
      const { fleet } = memory;
      fleet.sync(state.nodes);
      observeArrivals(fleet, seen, state.tasks);
      // What a plan takes is a trial: the commit decides, and the next state tells.
      const ground = new Ground(fleet);
      try {
        const expectations = expectationsOf(state);
        const ranks = ranksOf(state);
        return planOn(ground, {
          ...{ state, policy, memory, expectations, ranks, reasons, now, upTo },
        });
      } finally {
        ground.undo();
      }
    },
  };
}

/** What a planner keeps from plan to plan beside what it learned: it saves work, and decides nothing. */
interface Memory {
  readonly fleet: Fleet;
  readonly crew: Crew;
  readonly capacity: CapacityReasons;
  readonly owners: Owners;
}

function planOn(
  ground: Ground,
  of: {
    state: PlanState;
    policy: SchedulingPolicy;
    memory: Memory;
    expectations: Expectations;
    ranks: ReadonlyMap<TaskId, number>;
    reasons: boolean;
    now: number;
    upTo: TaskId | undefined;
  },
): Plan {
  const { state, policy, expectations, ranks, now } = of;
  const { crew, capacity, owners } = of.memory;
  const { fleet } = ground;
  const ready = state.tasks.filter((task) => mayStart(task, now));
  const attempts = crew.sync();
  const line = createLine({ state, attempts, ready, policy, expectations, ranks, now, owners });
  const budget = new Budget(state, { attempts, policy, now });
  const room = new PlanRoom({ ground, budget, line, expectations, policy, now });
  const starts = new Map<TaskId, number>();
  const expected = new Map<TaskId, number>();
  // 1. Who has GPUs reserved gets them, or waits for them and stops nobody else.
  keepPromises(room, { line, ready, fleet });
  // 2. Everybody else in the order of the line.
  const decisions = decide(line.queue, room, now, {
    preempt: policy.preemption.enabled,
    priorityWithinQueue: true,
    movesCount: true,
    ...(of.upTo === undefined ? {} : { upTo: line.slots.get(of.upTo)?.[0] }),
    ...(line.leafMd === undefined ? {} : { leafMd: line.leafMd }),
    ...(budget.guards ? { guarantees: guaranteesOf(line, budget) } : {}),
    onBlocked: (slot) => {
      if (!policy.backfill.enabled) return;
      const job = line.jobs.get(slot)!;
      const start = room.reserveStart(slot);
      if (start === undefined) return;
      const { atMs, promised } = start;
      if (!promised) {
        expected.set(job.task.id, atMs);
        return;
      }
      // By then it might run into what is reserved for others, or need a loan of it: no promise.
      const untilMs = atMs + (job.endMs - now);
      if (budget.reservedFor(job.task, untilMs, "without loans") === undefined)
        starts.set(job.task.id, atMs);
    },
  });
  // 3. As data: leases, who stops, and why the others wait.
  room.heads.clear();
  const { enabled, maxMoves } = policy.consolidation;
  const { minRunMs } = policy.order;
  return {
    placements: placementsOf(room, ground),
    preemptions: decisions.flatMap((decision) => preemptionsOf(decision, { room, line })),
    reasons: of.reasons
      ? explainWaiting(state.tasks, { ground, capacity, budget, line, room, now })
      : new Map(),
    starts,
    expected,
    moves: enabled ? proposeMoves(ground, { attempts, maxMoves, minRunMs, now }) : [],
  };
}

const guaranteesOf = (line: Line, budget: Budget): NonNullable<DecideOptions["guarantees"]> => ({
  entitled: (slot) => budget.guaranteedModels(line.jobs.get(slot)!.task).length > 0,
  ...(budget.dueNow
    ? { due: (slot) => budget.dueModels(line.jobs.get(slot)!.task).length > 0 }
    : {}),
  protects: (victim, slot) => budget.protects(line.runners.get(victim)!, line.jobs.get(slot)!.task),
});

const mayStart = (task: PlanTask, now: number): boolean =>
  task.notBeforeMs <= now && task.array?.leasesLeft !== 0;

/** Times that tasks with GPUs reserved for them are placed anew where one of them finds no room, at most. */
const maxTries = 8;

/** Places the tasks for which GPUs were freed, before everybody else: nothing else may take what they wait for. */
function keepPromises(
  room: PlanRoom,
  of: { line: Line; ready: readonly PlanTask[]; fleet: Fleet },
): void {
  const { line, ready, fleet } = of;
  const { queue, slots, jobs } = line;
  const promised = ready
    .filter(({ id }) => fleet.nodesFor.has(id))
    .toSorted((a, b) => a.submittedMs - b.submittedMs || (a.id < b.id ? -1 : 1))
    .flatMap(({ id }) => slots.get(id)?.[0] ?? []);
  const isClearing = (slot: Slot): boolean => fleet.clearing.has(jobs.get(slot)!.task.id);
  const unplaced = placeTogether(room, promised);
  for (const slot of promised) {
    // What found no room although all is free for it has lost its claim, and stands in line again.
    if (unplaced.has(slot) && !isClearing(slot)) continue;
    queue.promise(slot);
    if (unplaced.has(slot)) continue;
    queue.tree.allocate(queue.jobs.leaf[slot]!, jobs.get(slot)!.milli);
  }
}

/** Places all of these; where one finds no room it goes first and all are placed anew. Answers who found none. */
function placeTogether(room: PlanRoom, slots: readonly Slot[]): ReadonlySet<Slot> {
  let order = [...slots];
  for (let left = Math.min(maxTries, slots.length); ; left--) {
    const unplaced = order.filter((slot) => !room.place(slot));
    const [first] = unplaced;
    if (first === undefined || left <= 1 || first === order[0]) return new Set(unplaced);
    for (const slot of order.toReversed()) if (room.placed.has(slot)) room.release(slot);
    order = [first, ...order.filter((slot) => slot !== first)];
  }
}

/** What is leased: for each task in the order of its first place. */
function placementsOf(room: PlanRoom, ground: Ground): Placement[] {
  const byTask = new Map<PlanTask, (readonly MemberPlace[])[]>();
  for (const { job, taken, there } of room.placed.values()) {
    if (!there) continue;
    const members = ground.toMembers(taken);
    const places = byTask.get(job.task);
    if (places === undefined) byTask.set(job.task, [members]);
    else places.push(members);
  }
  return [...byTask].flatMap(([task, places]) => share(task, places));
}

/** Spreads an array's elements evenly over the leases that fit at once, so that none drags behind the others. */
function share(task: PlanTask, places: readonly (readonly MemberPlace[])[]): Placement[] {
  let pending = task.array?.pending ?? 0;
  return places.map((members, at) => {
    const elements = Math.min(maxElementsPerLease, Math.ceil(pending / (places.length - at)));
    pending -= elements;
    return { task, elements, members };
  });
}

const stoppedFor =
  "makes room for a task that goes before it in the line; it goes on from its checkpoint";
const movedFor =
  "moved to make room for a task that needs GPUs together; it goes on from its checkpoint elsewhere";

function preemptionsOf(
  { slot, victims, moves }: Decision,
  of: { room: PlanRoom; line: Line },
): Preemption[] {
  const { room, line } = of;
  const placed = room.placed.get(slot);
  if (placed === undefined || placed.there) return [];
  const stopped = [...victims, ...moves].map((victim): Preemption => {
    const attempt = line.runners.get(victim)!;
    const movesTo = room.moves.placeOf(victim);
    const stop = {
      victim: attempt.id,
      victimTask: attempt.lease.task,
      reservedFor: placed.job.task.id,
      gpus: room.shared(attempt, slot),
    };
    return movesTo === undefined
      ? { ...stop, message: stoppedFor }
      : { ...stop, movesTo, message: movedFor };
  });
  const freed = stopped.flatMap(({ gpus }) => gpus);
  const beside = room.beside(slot, freed);
  // Without a GPU to reserve nothing would keep the place for the task until its victims are gone.
  if (freed.length === 0 && beside.length === 0) return [];
  return stopped.map((each, at) => (at > 0 || beside.length === 0 ? each : { ...each, beside }));
}

/** Why each task that is not leased waits: looked up once for all tasks of a kind. */
function explainWaiting(
  tasks: readonly PlanTask[],
  of: {
    ground: Ground;
    capacity: CapacityReasons;
    budget: Budget;
    line: Line;
    room: PlanRoom;
    now: number;
  },
): Map<TaskId, WaitReason> {
  const { ground, capacity, budget, line, room, now } = of;
  const { fleet } = ground;
  capacity.begin();
  const reasons = new Map<TaskId, WaitReason>();
  const byKind = new Map<number, WaitReason>();
  const fitting = new Map<number, boolean>();
  // Whether but for nodes that are kept for a reservation it would start.
  const fitsBeside = (slot: Slot, kind: number): boolean => {
    let known = fitting.get(kind);
    if (known === undefined)
      fitting.set(kind, (known = wouldFit(line.jobs.get(slot)!, { ground, budget })));
    return known;
  };
  for (const task of tasks) {
    const slots = line.slots.get(task.id) ?? [];
    if (slots.length === 0) {
      reasons.set(task.id, task.notBeforeMs > now ? backoff : parallelismReached);
      continue;
    }
    let kept = fleet.clearing.has(task.id);
    let starts = false;
    for (const slot of slots) {
      const placed = room.placed.get(slot);
      if (placed === undefined) continue;
      kept = true;
      starts ||= placed.there;
    }
    if (starts) continue;
    if (kept) {
      reasons.set(task.id, makingRoom);
      continue;
    }
    const { kind, endMs } = line.jobs.get(slots[0]!)!;
    let reason = byKind.get(kind);
    if (reason === undefined) byKind.set(kind, (reason = capacity.of(task)));
    const hit = reason.reason === "UNSATISFIABLE" ? undefined : budget.limit(task);
    if (hit !== undefined) reason = quotaReached(hit);
    else if (reason.reason !== "UNSATISFIABLE") {
      const places = budget.placesOf(task, endMs);
      const reservation =
        budget.reservedFor(task, endMs) ??
        (places !== undefined && fitsBeside(slots[0]!, kind) ? places : undefined);
      if (reservation !== undefined) reason = keptForReservation(reservation, task);
    }
    reasons.set(task.id, reason);
  }
  return reasons;
}

/** Each task counts once in the mix that the default policy learns. */
function observeArrivals(fleet: Fleet, seen: Set<string>, tasks: readonly PlanTask[]): void {
  const fresh = tasks.filter((task) => !seen.has(task.id));
  // So that the order of the input decides nothing.
  fresh.sort((a, b) => a.submittedMs - b.submittedMs || (a.id < b.id ? -1 : 1));
  for (const task of fresh) {
    if (seen.has(task.id)) continue;
    seen.add(task.id);
    const shape = fleet.shapeOf(task, task.demand.gpuModels);
    if (shape !== undefined) fleet.free.observe(shape);
  }
  if (seen.size <= 100_000) return;
  for (const id of seen) {
    if (seen.size <= 50_000) break;
    seen.delete(id);
  }
}
