import { randomBytes } from "node:crypto";
import type { Plan, PlanState } from "@fastgpu/scheduling/plan";
import type { Learned, Planner } from "@fastgpu/scheduling/planner";
import { plannerOf } from "@fastgpu/scheduling/recording/replay";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import type { Recorder } from "../recording/recorder.ts";

/** The planner of a term, recorded. */
export interface Planning {
  /** Decides one cycle. */
  plan(state: PlanState, nowMs: number): Plan;
  /** Tells the recording of news that needed no plan: the ends of what ran, above all. */
  note(state: PlanState, nowMs: number): void;
  /** Plans by another policy from the next cycle on; what was learned of arrivals stays. */
  setPolicy(policy: SchedulingPolicy): void;
}

/**
 * Plans, and has each cycle recorded. A planner remembers, so that its decisions can be had again only from its
 * beginning: where the recording wants a new segment (the last is full, or has a gap), a new planner begins in it. It
 * takes over what the old one learned of arrivals, and costs one rebuilding of the fleet's index.
 */
export function createPlanning(first: SchedulingPolicy, recorder: Recorder | undefined): Planning {
  let policy = first;
  let planner: Planner | undefined;
  let learned: Learned | undefined;
  const presentPlanner = (): Planner => {
    const renew = recorder?.wantsBeginning() ?? false;
    if (planner !== undefined && !renew) return planner;
    learned = planner?.learned() ?? learned;
    const beginning = { policy, seed: randomBytes(4).readUInt32LE(), learned };
    recorder?.begin(beginning);
    return (planner = plannerOf(beginning));
  };
  return {
    plan(state, nowMs) {
      const present = presentPlanner();
      try {
        const plan = present.plan(state, nowMs);
        recorder?.cycle(state, nowMs, plan);
        return plan;
      } catch (error) {
        // Who knows what it has taken in of this cycle: the next begins anew.
        learned = present.learned();
        planner = undefined;
        throw error;
      }
    },
    note(state, nowMs) {
      // Before the first plan there is nothing that a replay would need.
      if (planner !== undefined) recorder?.cycle(state, nowMs, undefined);
    },
    setPolicy(next) {
      policy = next;
      planner?.setPolicy(next);
      recorder?.policy(next);
    },
  };
}
