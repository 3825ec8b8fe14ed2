import type { OrgId, TaskId } from "@fastgpu/domain/ids";
import type { PlanState, PlanTask } from "@fastgpu/scheduling/plan";

/** How long a task that could not be paid for is left out of plans. */
const restMs = 5_000;
/** Once so many tasks of an organisation were refused, all its others with GPUs rest too: nobody asks for each. */
const enoughRefused = 3;

/**
 * Tasks whose hold was refused of late. A plan gives them GPUs that they cannot have, and as long as it does these stand
 * idle: so they rest while the others are planned, and are tried again a little later.
 */
export interface Poor {
  /** Answers whether any of these did not rest yet. */
  note(refused: Iterable<PlanTask>, nowMs: number): boolean;
  /** The state without those that rest. */
  without(state: PlanState, nowMs: number): PlanState;
  /** When the next of them is tried again; Infinity: none rests. */
  nextMs(): number;
}

/** Nobody rests at first. */
export function createPoor(): Poor {
  const resting = new Map<TaskId, { readonly org: OrgId; readonly untilMs: number }>();
  return {
    note(refused, nowMs) {
      const before = resting.size;
      for (const { id, org } of refused) {
        if (!resting.has(id)) resting.set(id, { org, untilMs: nowMs + restMs });
      }
      return resting.size > before;
    },
    without(state, nowMs) {
      for (const [id, { untilMs }] of resting) if (untilMs <= nowMs) resting.delete(id);
      if (resting.size === 0) return state;
      const refused = Map.groupBy(resting.values(), ({ org }) => org);
      const tasks = state.tasks.filter(({ id, org, demand }) => {
        if (resting.has(id)) return false;
        return demand.gpuCount === 0 || (refused.get(org)?.length ?? 0) < enoughRefused;
      });
      return { ...state, tasks };
    },
    nextMs() {
      let next = Number.POSITIVE_INFINITY;
      for (const { untilMs } of resting.values()) next = Math.min(next, untilMs);
      return next;
    },
  };
}
