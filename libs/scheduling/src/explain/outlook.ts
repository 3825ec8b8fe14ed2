import type { ProjectId, TaskId } from "@fastgpu/domain/ids";
import { milliOfHeld } from "../gpu-part.ts";
import type { PlanState } from "../plan.ts";
import { Future, type FutureInput } from "./future.ts";

/** What becomes of everything that waits until a time. */
export interface Outlook {
  /** First starts, by task. */
  readonly starts: ReadonlyMap<TaskId, number>;
  /** Tasks of the line at the beginning that have not started by then. */
  readonly waiting: number;
  /** Mean time from the beginning to a task's start, in milliseconds; who has not started counts with all of it. */
  readonly meanWaitMs: number;
  /** Part of the GPU time that is leased; of no GPUs: 0. */
  readonly utilisation: number;
  /** Jain's index of what projects with waiting tasks get by weight (Jain, Chiu and Hawe, DEC TR-301, 1984). */
  readonly fairness: number;
  /** Running attempts that are stopped in favour of others. */
  readonly stopped: number;
  /** The time for it was up before: figures are until the moment reached. */
  readonly cutShort: boolean;
}

/** Turns at most, beyond which the rest of the time counts as it stands. */
const maxTurns = 2_000;

/** Follows the planner from the state to `untilMs`, and counts what happens on the way. */
export function outlookOf(
  input: FutureInput & {
    /** Asked before each turn: false ends it. */
    readonly goOn?: () => boolean;
  },
  untilMs: number,
): Outlook {
  const { state, nowMs: fromMs } = input;
  const future = new Future(input);
  const { goOn = () => true } = input;
  const served = new Map<ProjectId, number>();
  let busyGpuMs = 0;
  let stopped = 0;
  let cutShort = false;
  let atMs = fromMs;
  for (let turn = 0; atMs < untilMs; turn++) {
    if (turn >= maxTurns || !goOn()) {
      cutShort = true;
      break;
    }
    stopped += future.turn().preemptions.length;
    const held = heldBy(future.state());
    const more = future.advance();
    const toMs = more ? Math.min(future.nowMs, untilMs) : untilMs;
    for (const [project, gpus] of held) {
      busyGpuMs += gpus * (toMs - atMs);
      served.set(project, (served.get(project) ?? 0) + gpus * (toMs - atMs));
    }
    atMs = toMs;
  }
  const starts = new Map<TaskId, number>();
  for (const [id, start] of future.started) if (start.atMs < untilMs) starts.set(id, start.atMs);
  const gpus = state.nodes.reduce((sum, node) => sum + node.gpus.length, 0);
  const passedMs = atMs - fromMs;
  const waits = state.tasks.map(({ id }) => (starts.get(id) ?? atMs) - fromMs);
  return {
    starts,
    waiting: state.tasks.filter(({ id }) => !starts.has(id)).length,
    meanWaitMs: waits.length === 0 ? 0 : waits.reduce((sum, each) => sum + each, 0) / waits.length,
    utilisation: gpus * passedMs === 0 ? 0 : busyGpuMs / (gpus * passedMs),
    fairness: jainIndex(state, served),
    stopped,
    cutShort,
  };
}

/** GPUs held, by project. */
function heldBy({ nodes }: PlanState): ReadonlyMap<ProjectId, number> {
  const held = new Map<ProjectId, number>();
  for (const { running } of nodes) {
    for (const lease of running) {
      if (lease.gpus.length === 0) continue;
      held.set(lease.project, (held.get(lease.project) ?? 0) + milliOfHeld(lease) / 1000);
    }
  }
  return held;
}

function jainIndex(state: PlanState, served: ReadonlyMap<ProjectId, number>): number {
  const weights = new Map(
    state.queues.flatMap(({ project, user, weight }) =>
      project === undefined || user !== undefined ? [] : [[project, weight] as const],
    ),
  );
  const wanting = state.tasks.filter(({ demand }) => demand.gpuCount > 0);
  const shares = [...new Set(wanting.map(({ project }) => project))].map(
    (project) => (served.get(project) ?? 0) / (weights.get(project) ?? 1),
  );
  const sum = shares.reduce((total, each) => total + each, 0);
  const squares = shares.reduce((total, each) => total + each * each, 0);
  return squares === 0 ? 1 : (sum * sum) / (shares.length * squares);
}
