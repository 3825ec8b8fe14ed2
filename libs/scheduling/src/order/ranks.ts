import type { TaskId } from "@fastgpu/domain/ids";
import { milliOfDemand, milliOfHeld } from "../gpu-part.ts";
import type { PlanRank, PlanState } from "../plan.ts";
import { ServiceHistory, type HistoryOptions, type Life } from "./history.ts";

/** A task that came to its end by itself. */
export interface PastTask {
  readonly project: string;
  /** GPUs of all members. */
  readonly gpus: number;
  readonly submittedMs: number;
  /** Run time of all its attempts together, in milliseconds. */
  readonly ranMs: number;
}

/** Time between two renewals of the ranks, in milliseconds. */
export const renewRanksEveryMs = 3 * 3_600_000;

/** Last tasks of each project that ranks rest on (up to twice as many are kept, about 60 bytes each), and projects at most. */
const maxTasks = 512;
const maxProjects = 512;

/** A task that has run and not ended, as the state tells of it. */
interface Living {
  readonly id: TaskId;
  readonly gpus: number;
  readonly submittedMs: number;
  readonly preemptible: boolean;
  /** Run time so far, in milliseconds. */
  ranMs: number;
}

/**
 * Ranks of the tasks that have run and not ended, by history.ts: made by the leader from those that have ended and from
 * the state itself, given to each plan in its state, and renewed now and then. Tasks are neighbours by their submit.
 * Nobody's run times count for another project.
 */
export class Ranks {
  private readonly ended = new Map<string, PastTask[]>();
  private list: readonly PlanRank[] = [];

  /** Learns from a task that has ended. */
  observe(task: PastTask): void {
    if (task.gpus <= 0) return;
    const { project } = task;
    const known = this.ended.get(project) ?? [];
    // Projects in the order of their last end.
    this.ended.delete(project);
    this.ended.set(project, known);
    known.push(task);
    if (known.length >= 2 * maxTasks) known.splice(0, known.length - maxTasks);
    if (this.ended.size <= maxProjects) return;
    for (const [oldest] of this.ended) {
      this.ended.delete(oldest);
      break;
    }
  }

  /** Ranks anew every task of a state that has run. O(n log n) for n of them and of their projects' past tasks. */
  renew(
    state: Pick<PlanState, "nodes" | "tasks">,
    of: { readonly nowMs: number; readonly options: HistoryOptions },
  ): void {
    const list: PlanRank[] = [];
    for (const [project, living] of livingOf(state, of.nowMs)) {
      if (!living.some(({ preemptible }) => preemptible)) continue;
      this.rankAll(project, { living, options: of.options }, list);
    }
    this.list = list.sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** For the planner's state: the same list until it is renewed. */
  plan(): readonly PlanRank[] {
    return this.list;
  }

  private rankAll(
    project: string,
    { living, options }: { living: readonly Living[]; options: HistoryOptions },
    into: PlanRank[],
  ): void {
    const history = new ServiceHistory(options);
    const past = (this.ended.get(project) ?? []).slice(-maxTasks);
    const lives = new Map<Life, Living>();
    // In an order of their own, so that it is no matter who was heard of first.
    for (const task of [...past, ...living].sort(bySubmit)) {
      const life = history.enter(0, task.gpus);
      if ("id" in task) lives.set(life, task);
      else history.end(life, task.ranMs);
    }
    history.refresh(new Map([...lives].map(([life, { ranMs }]) => [life, ranMs])));
    for (const [{ rankMs }, { id, preemptible }] of lives) {
      // Whoever cannot be stopped is not ordered by what it has had.
      if (preemptible && rankMs !== undefined) into.push({ id, rankMs: Math.round(rankMs) });
    }
  }
}

const bySubmit = (a: PastTask | Living, b: PastTask | Living): number =>
  a.submittedMs - b.submittedMs || a.gpus - b.gpus || a.ranMs - b.ranMs;

/** Tasks with GPUs that have run and not ended, by project; elements of arrays are not looked at. */
function livingOf(
  { nodes, tasks }: Pick<PlanState, "nodes" | "tasks">,
  nowMs: number,
): ReadonlyMap<string, readonly Living[]> {
  const byProject = new Map<string, Map<TaskId, Living>>();
  const add = (project: string, task: Living): void => {
    const known = byProject.get(project);
    if (known === undefined) byProject.set(project, new Map([[task.id, task]]));
    else known.set(task.id, task);
  };
  // Width and service of a gang are its members' together; each lease tells the service of the whole.
  const widths = new Map<TaskId, number>();
  for (const { running } of nodes) {
    for (const lease of running) {
      const gpus = (widths.get(lease.task) ?? 0) + milliOfHeld(lease) / 1000;
      widths.set(lease.task, gpus);
      const since = lease.runningSinceMs;
      if (lease.turns !== undefined || gpus <= 0 || since === undefined) continue;
      const ranMs = lease.attainedGpuMs / gpus + Math.max(0, nowMs - since);
      const { task: id, submittedMs, preemptible } = lease;
      add(lease.project, { id, gpus, submittedMs, preemptible, ranMs });
    }
  }
  for (const { id, project, demand, replicas, attainedGpuMs, ...task } of tasks) {
    const gpus = (milliOfDemand(demand) * replicas) / 1000;
    if (attainedGpuMs <= 0 || gpus <= 0 || task.array !== undefined) continue;
    const { submittedMs, preemptible } = task;
    add(project, { id, gpus, submittedMs, preemptible, ranMs: attainedGpuMs / gpus });
  }
  const found = new Map<string, readonly Living[]>();
  for (const [project, living] of byProject) found.set(project, [...living.values()]);
  return found;
}
