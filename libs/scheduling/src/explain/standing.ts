import { milliOfHeld } from "../gpu-part.ts";
import type { PlanState, PlanTask } from "../plan.ts";
import type { QueueName } from "./quotas.ts";

/** What a queue is due, and what it has. */
export interface Standing {
  readonly queue: QueueName;
  readonly weight: number;
  readonly guaranteedGpus: number;
  /** Undefined: no limit. */
  readonly limitGpus: number | undefined;
  readonly heldGpus: number;
  /** Tasks of it that wait. */
  readonly waiting: number;
}

/** The queues that a task counts for: its project's, then its organisation's. */
export function standingsOf(state: PlanState, { org, project }: PlanTask): Standing[] {
  const leases = state.nodes.flatMap((node) => node.running).filter((lease) => lease.org === org);
  const waiting = state.tasks.filter((each) => each.org === org);
  const behind = (state.behind ?? []).filter((each) => each.org === org);
  return [project, undefined].map((of) => {
    const row = state.queues.find(
      (each) => each.org === org && each.project === of && each.user === undefined,
    );
    const counts = (each: { readonly project: string }): boolean =>
      of === undefined || each.project === of;
    return {
      queue: { org, project: of, user: undefined },
      weight: row?.weight ?? 1,
      guaranteedGpus: row?.guaranteedGpus ?? 0,
      limitGpus: row?.limitGpus,
      heldGpus: leases.filter(counts).reduce((sum, lease) => sum + milliOfHeld(lease), 0) / 1000,
      waiting:
        waiting.filter(counts).length +
        behind.filter(counts).reduce((sum, each) => sum + each.tasks, 0),
    };
  });
}
