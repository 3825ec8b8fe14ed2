import { createPlanner, type Planner } from "../planner.ts";
import { seededRng } from "../seeded-rng.ts";
import type { Beginning, Frame } from "./frames.ts";
import { differences, planned, type Planned } from "./planned.ts";

/** The planner of a life: the same beginning and the same cycles give the same plans. */
export function plannerOf({ policy, seed, learned }: Beginning): Planner {
  return createPlanner({ policy, rng: seededRng(seed), learned });
}

/** A cycle that was planned again. */
export interface Replayed {
  readonly nowMs: number;
  readonly recorded: Planned;
  /** How the plan of this engine differs; empty: the same decisions. */
  readonly differences: ReturnType<typeof differences>;
}

/** Plans recorded cycles again, frame by frame. Throws RangeError where a life does not begin with its beginning. */
export function createReplay(): (frame: Frame) => Replayed | undefined {
  let planner: Planner | undefined;
  return (frame) => {
    if (frame.kind === "beginning") {
      planner = plannerOf(frame.beginning);
      return undefined;
    }
    if (planner === undefined) throw new RangeError("the recording has no beginning");
    if (frame.kind === "policy") planner.setPolicy(frame.policy);
    if (frame.kind !== "cycle") return undefined;
    const { nowMs, planned: recorded } = frame;
    const again = planned(planner.plan(frame.state, nowMs));
    return { nowMs, recorded, differences: differences(recorded, again) };
  };
}
