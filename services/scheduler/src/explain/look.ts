import type { OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import { plainTask, type PlanTask } from "@fastgpu/scheduling/plan";
import type { Asker } from "./desk.ts";

/** Who asks by a call. */
export function askerOf({ signal, deadlineMs }: CallContext, org: OrgId): Asker {
  return { org, signal, deadlineMs };
}

/** What the planner needs of a task that it may not have in line. */
export function planTaskOf(of: {
  id: TaskId;
  org: OrgId;
  project: ProjectId;
  /** Shares and limits are of users too: without its own it would stand elsewhere in line. */
  user: string;
  preemptible: boolean;
  demand: PlanTask["demand"];
  priority: number;
  submittedMs: number;
  stopGraceMs: number;
  more?: Partial<PlanTask>;
}): PlanTask {
  const { more, ...task } = of;
  return {
    ...plainTask,
    ...task,
    epoch: 0,
    notBeforeMs: 0,
    excludedGpus: [],
    array: undefined,
    ...more,
  };
}
