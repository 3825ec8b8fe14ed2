/** Builders of plan inputs for tests: small, readable, everything may be changed. */
import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import {
  plainTask,
  type Demand,
  type GpuMode,
  type PlanLease,
  type PlanNode,
  type PlanQueue,
  type PlanState,
  type PlanTask,
} from "./plan.ts";

/** A lease: a plain task of `org-a` that can not be stopped, on one core. */
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

/** The id of the GPU at a position of a node. */
export const gpuId = (node: string, at: number): GpuId => `gpu-${node}-${at}` as GpuId;

/** An empty node with so many GPUs of one model, and cores and memory without end. */
export function aNode(
  name: string,
  gpus: number,
  of: Partial<PlanNode> & { model?: string; mode?: GpuMode | ((at: number) => GpuMode) } = {},
): PlanNode {
  const { model = "A100", mode, ...over } = of;
  return {
    id: `node-${name}` as NodeId,
    name,
    acceptsWork: true,
    runtimes: ["process"],
    cpuMillis: 1_000_000,
    memoryMib: 1_000_000,
    diskMib: 1_000_000,
    gpus: Array.from({ length: gpus }, (_, at) => ({
      id: gpuId(name, at),
      model,
      memoryMib: 80_000,
      simulated: false,
      ...(mode === undefined ? {} : { mode: typeof mode === "function" ? mode(at) : mode }),
      free: true,
      reservedFor: undefined,
    })),
    topology: {},
    running: [],
    ...over,
  };
}

/** A task that asks for one GPU, or as the demand says. Its owner is `org/project` or `org/project/user`. */
export function aTask(
  id: string,
  of: Omit<Partial<PlanTask>, "demand"> & { owner?: string; demand?: Partial<Demand> } = {},
): PlanTask {
  const { owner = "a/x", demand, ...over } = of;
  const [org, project, user = ""] = owner.split("/");
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: `org-${org}` as OrgId,
    project: `proj-${project}` as ProjectId,
    user,
    epoch: 0,
    priority: 0,
    submittedMs: 0,
    notBeforeMs: 0,
    demand: {
      runtime: "process",
      gpuCount: 1,
      gpuModels: [],
      gpuMinMemoryMib: 0,
      simulatedOk: true,
      cpuMillis: 1_000,
      memoryMib: 1_024,
      diskMib: 0,
      ...demand,
    },
    stopGraceMs: 0,
    excludedGpus: [],
    array: undefined,
    ...over,
  };
}

/** The queue of an organisation (`a`), a project (`a/x`) or a user (`a/x/u`). */
export function aQueue(owner: string, over: Partial<PlanQueue> = {}): PlanQueue {
  const [org, project, user] = owner.split("/");
  return {
    org: `org-${org}` as OrgId,
    project: project === undefined ? undefined : (`proj-${project}` as ProjectId),
    user,
    weight: 1,
    guaranteedGpus: 0,
    limitGpus: undefined,
    models: {},
    ...over,
  };
}

/** A state in which nobody had service before, and nothing is reserved. */
export const aState = (of: Pick<PlanState, "nodes" | "tasks"> & Partial<PlanState>): PlanState => ({
  queues: [],
  usage: [],
  reservations: [],
  ...of,
});
