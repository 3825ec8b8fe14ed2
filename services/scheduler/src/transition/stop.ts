import type { ExitClass } from "@fastgpu/domain/states";
import type { AttemptChange, StoredAttempt } from "../store/attempts.ts";

const stoppable: readonly StoredAttempt["state"][] = ["LEASED", "STARTING", "RUNNING"];

/** Those of these attempts and members that can be told to stop: neither told yet nor past it. */
export function stoppableOf(attempts: readonly StoredAttempt[]): StoredAttempt[] {
  return attempts.filter(({ state }) => stoppable.includes(state));
}

/** Tells them to stop for this reason: the class they end with unless they exit before they hear of it. */
export function stopChanges(
  attempts: readonly StoredAttempt[],
  stopClass: ExitClass,
  nowMs: number,
): AttemptChange[] {
  return attempts.map(({ id, member, state }) => ({
    ...{ id, member, prevState: state, state: "STOPPING", stopClass, stopMs: nowMs },
  }));
}
