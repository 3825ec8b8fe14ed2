import type { AttemptId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import type { PlanLease } from "./plan.ts";

/** A lease for a test: a plain task of `org-a` that can not be stopped, on one core; everything may be changed. */
export function lease(of: Partial<PlanLease> = {}): PlanLease {
  return {
    attempt: "att-a" as AttemptId,
    member: 0,
    task: "task-running" as TaskId,
    org: "org-a" as OrgId,
    project: "proj-a" as ProjectId,
    user: "",
    cpuMillis: 1_000,
    memoryMib: 1_024,
    diskMib: 0,
    gpus: [],
    priority: 0,
    submittedMs: 0,
    heldSinceMs: 0,
    runningSinceMs: 0,
    savedMs: undefined,
    attainedGpuMs: 0,
    preemptions: 0,
    preemptible: false,
    stopping: false,
    endsByMs: Number.POSITIVE_INFINITY,
    ...of,
  };
}
