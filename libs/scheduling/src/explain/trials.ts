import type { TaskId } from "@fastgpu/domain/ids";
import type { PlanNode, PlanState, PlanTask } from "../plan.ts";
import { createPlanner, type Planner } from "../planner.ts";
import type { FutureInput } from "./future.ts";

/** Ways to try a task on a copy of the state, all with the planner itself. */
export interface Trials {
  /**
   * Tries tasks alone on these nodes, one after the other: whether one would be placed, or others be stopped for it.
   * Quick, as the nodes are taken in once; it does not tell what goes before it.
   */
  placer(
    nodes: readonly PlanNode[],
    queues?: "with queues" | "without queues",
  ): (task: PlanTask) => boolean;
  /** The nodes that the next cycle leaves to the task. */
  readonly nodes: readonly PlanNode[];
  /** When the next cycle starts this task in place of the one explained, in such a state; undefined: it does not. */
  startsBy(task: PlanTask, over?: Partial<PlanState>): number | undefined;
  readonly goOn: () => boolean;
  /** So many tasks wait that a try takes long: first it is asked whether any of several may do at all. */
  readonly dear: boolean;
}

/** Tasks that wait from which on a try is dear. */
const dearFrom = 1_000;

/** Trials around one task. */
export function createTrials(
  of: Omit<FutureInput, "lengths" | "bounds" | "planner"> & {
    readonly task: PlanTask;
    readonly longest: FutureInput["lengths"];
    readonly nodes: readonly PlanNode[];
    readonly goOn?: () => boolean;
  },
): Trials {
  const { state, task, longest, nodes, nowMs, policy, rng } = of;
  const goOn = of.goOn ?? (() => true);
  const { view } = of;
  const others = state.tasks.filter((each) => each.id !== task.id);
  // What a plan sees of them is the same in each trial, and the candidate it sees anyway.
  let seen: PlanState | undefined;
  let planner: Planner | undefined;
  const planners = new Map<readonly PlanNode[], Planner>();
  const plannerOf = (on: readonly PlanNode[]): Planner => {
    const known = planners.get(on);
    if (known !== undefined) return known;
    const made = fresh();
    planners.set(on, made);
    return made;
  };
  return {
    nodes,
    goOn,
    dear: state.tasks.length >= dearFrom,
    placer(on, queues = "with queues") {
      // It remembers the fleet: only the first try takes the nodes in.
      const alone = plannerOf(on);
      const bare = queues === "without queues" ? { queues: [], reservations: [] } : {};
      return (candidate) => {
        const plan = alone.plan({ ...state, ...bare, nodes: on, tasks: [candidate] }, nowMs);
        return plan.placements.length > 0 || plan.preemptions.length > 0;
      };
    },
    startsBy(candidate, over = {}) {
      const whole = { ...state, tasks: others };
      seen ??= view?.of(whole) ?? whole;
      const tried = { ...seen, ...over, tasks: [...seen.tasks, candidate] };
      // All trials are of the same tasks, and nearly the same fleet: a kept planner takes in what differs. But it has
      // also learned from the trials before, and may place what goes first elsewhere: what it finds is tried anew.
      const found = turnWith((planner ??= fresh()), tried, candidate.id);
      return found === undefined ? undefined : turnWith(fresh(), tried, candidate.id);
    },
  };

  function fresh(): Planner {
    return createPlanner({ policy, rng, reasons: false });
  }

  function turnWith(planner: Planner, state: PlanState, id: TaskId): number | undefined {
    const { placements, preemptions } = planner.plan(state, nowMs, id);
    if (placements.some((each) => each.task.id === id)) return nowMs;
    const stopped = new Set(
      preemptions.flatMap((each) => (each.reservedFor === id ? [each.victim] : [])),
    );
    if (stopped.size === 0) return undefined;
    const leases = state.nodes.flatMap((node) => node.running);
    const victims = leases.filter((lease) => stopped.has(lease.attempt));
    return nowMs + Math.max(...victims.map((lease) => longest.stopMs(lease)));
  }
}
