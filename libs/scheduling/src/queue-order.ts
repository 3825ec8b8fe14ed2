import type { TaskId } from "@fastgpu/domain/ids";
import { decide } from "./order/decide.ts";
import type { Room } from "./order/room.ts";
import type { PlanReservation, PlanState, PlanTask } from "./plan.ts";
import { Budget, type LimitHit } from "./planning/budget.ts";
import { Expectations } from "./planning/expectations.ts";
import { attemptsOf } from "./planning/crew.ts";
import { endIfStarted } from "./planning/ends.ts";
import { createLine, type Line } from "./planning/line.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "./scheduling-policy.ts";

export type { LimitHit };

/** What saves a walk some work. */
interface WalkOptions {
  /** The line at that time, where it has been put together already. */
  readonly line?: Line | undefined;
  /** The walk ends with this task. */
  readonly upTo?: TaskId | undefined;
}

/** The queues of a state, apart from any place: for questions about the line itself. */
export interface QueueOrder {
  /**
   * Tasks in the order in which the planner would serve them: `place` is called with the next one, once for each lease
   * of an array, and answers whether it gets a place.
   */
  walk(now: number, place: (task: PlanTask) => boolean, of?: WalkOptions): void;
  /** The limit that a task would pass as things stand, from its own queue upwards; undefined where it passes none. */
  limit(task: PlanTask): LimitHit | undefined;
  /** The reservation of others that a task might run into if it started now; undefined where there is none. */
  reservation(task: PlanTask, now: number): PlanReservation | undefined;
}

/** The queues of a state, with what runs now. */
export function createQueueOrder(
  state: PlanState,
  policy: SchedulingPolicy = defaultSchedulingPolicy,
): QueueOrder {
  const attempts = attemptsOf(state.nodes);
  // The order does not go by run times.
  const expectations = new Expectations([]);
  return {
    limit: (task) =>
      new Budget({ ...state, reservations: [] }, { attempts, policy, now: 0 }).limit(task),
    reservation: (task, now) =>
      new Budget(state, { attempts, policy, now }).reservedFor(task, endIfStarted(task, now)),
    walk(now, place, of = {}) {
      const line =
        of.line ?? createLine({ state, attempts, ready: state.tasks, policy, expectations, now });
      const budget = new Budget(state, { attempts, policy, now });
      const room: Room = {
        ...noPreemption,
        capacityMilli: line.unit.capacityMilli,
        place(slot) {
          const { task, gpuMilli, endMs } = line.jobs.get(slot)!;
          if (budget.limit(task) !== undefined || !place(task)) return false;
          const [model = ""] = task.demand.gpuModels;
          const counts = new Map([[model, gpuMilli]]);
          budget.change(budget.takenBy(task, { counts, endMs }), 1);
          return true;
        },
      };
      const { leafMd } = line;
      const past = leafMd === undefined ? {} : { leafMd };
      const upTo = of.upTo === undefined ? undefined : line.slots.get(of.upTo)?.[0];
      decide(line.queue, room, now, { preempt: false, priorityWithinQueue: true, upTo, ...past });
    },
  };
}

/** What a room is never asked without preemption. */
const noPreemption = {
  freeMilli: () => Number.POSITIVE_INFINITY,
  release: () => undefined,
  restore: () => false,
  victims: () => undefined,
};
