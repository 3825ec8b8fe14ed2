import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import { describe, expect, test } from "vitest";
import { plainTask, type PlanNode, type PlanState, type PlanTask } from "../plan.ts";
import { lease } from "../scene.ts";
import { defaultSchedulingPolicy } from "../scheduling-policy.ts";
import { longest } from "./future.ts";
import { outlookOf, type Outlook } from "./outlook.ts";

const hour = 3_600_000;

function node(id: string, busyUntilMs?: number): PlanNode {
  const gpu = `gpu-${id}` as GpuId;
  return {
    id: `node-${id}` as NodeId,
    name: id,
    acceptsWork: true,
    runtimes: ["process"],
    cpuMillis: 8_000,
    memoryMib: 65_536,
    diskMib: 100_000,
    gpus: [
      {
        ...{ id: gpu, model: "X", memoryMib: 80_000, simulated: false },
        ...{ free: busyUntilMs === undefined, reservedFor: undefined },
      },
    ],
    topology: {},
    running:
      busyUntilMs === undefined
        ? []
        : [lease({ attempt: `att-${id}` as AttemptId, gpus: [gpu], endsByMs: busyUntilMs })],
  };
}

function task(id: string, project = "proj-a"): PlanTask {
  return {
    ...plainTask,
    id: `task-${id}` as TaskId,
    org: "org-a" as OrgId,
    project: project as ProjectId,
    epoch: 0,
    priority: 0,
    submittedMs: 0,
    notBeforeMs: 0,
    demand: {
      ...{ runtime: "process", gpuCount: 1, gpuModels: [], gpuMinMemoryMib: 0 },
      ...{ simulatedOk: true, cpuMillis: 1_000, memoryMib: 1_024, diskMib: 0 },
    },
    stopGraceMs: 0,
    maxRuntimeMs: hour,
    excludedGpus: [],
    array: undefined,
  };
}

function outlook(of: Partial<PlanState>, untilMs = 10 * hour, goOn?: () => boolean): Outlook {
  const state = { nodes: [], tasks: [], queues: [], usage: [], reservations: [], ...of };
  const input = { state, nowMs: 0, policy: defaultSchedulingPolicy, rng: () => 0.5 };
  const bound = goOn === undefined ? {} : { goOn };
  return outlookOf({ ...input, lengths: longest, ...bound }, untilMs);
}

describe("the outlook", () => {
  test("says when each task starts, how long they wait, and how much of the fleet is used", () => {
    const told = outlook({ nodes: [node("a", hour)], tasks: [task("1"), task("2")] }, 4 * hour);
    expect([...told.starts]).toEqual([
      ["task-1", hour],
      ["task-2", 2 * hour],
    ]);
    expect(told).toMatchObject({ waiting: 0, meanWaitMs: 1.5 * hour, utilisation: 0.75 });
    expect(told).toMatchObject({ stopped: 0, cutShort: false, fairness: 1 });
  });

  test("with another node has the same tasks start sooner", () => {
    const tasks = [task("1"), task("2")];
    const told = outlook({ nodes: [node("a", hour), node("b")], tasks });
    expect([...told.starts.values()]).toEqual([0, hour]);
  });

  test("counts what does not start with all of the time", () => {
    const told = outlook({ nodes: [node("a", 20 * hour)], tasks: [task("1")] });
    expect(told).toMatchObject({ waiting: 1, meanWaitMs: 10 * hour, utilisation: 1 });
    expect(told.starts.size).toBe(0);
  });

  test("calls it unfair where one of two equal projects has nearly all", () => {
    const tasks = [...["1", "2", "3"].map((id) => task(id)), task("4", "proj-b")];
    const even = outlook({ nodes: [node("a"), node("b")], tasks: tasks.slice(2) }, hour);
    expect(even.fairness).toBeCloseTo(1);
    const odd = outlook({ nodes: [node("a"), node("b"), node("c")], tasks }, hour);
    expect(odd.fairness).toBeCloseTo(9 / (2 * 5));
  });

  test("ends where the time for it is up, and says so", () => {
    let left = 1;
    const told = outlook(
      { nodes: [node("a", hour)], tasks: [task("1"), task("2")] },
      10 * hour,
      () => left-- > 0,
    );
    expect(told).toMatchObject({ cutShort: true, waiting: 2 });
  });
});
