import { create } from "@bufbuild/protobuf";
import {
  SimulatedPolicy,
  TaskSchema,
  TaskState,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describe, expect, test } from "vitest";
import { changedTask } from "./task-rerun.ts";

const before = create(TaskSchema, {
  name: "projects/p/tasks/t",
  displayName: "train",
  labels: { team: "vision" },
  state: TaskState.QUEUED,
  spec: {
    runtime: { case: "process", value: { command: ["sh", "-c", "true"] } },
    env: { A_B: "1" },
    resources: { cpuMillis: 500n, memoryMib: 64n, gpu: { count: 4, models: ["X"] } },
  },
});

describe("a task that is run again", () => {
  test("keeps everything that is not set, and nothing that the service sets", () => {
    const after = changedTask(before, []);
    expect(after.spec).toEqual(before.spec);
    expect(after).toMatchObject({ name: "", displayName: "train", labels: { team: "vision" } });
    expect(after.state).toBe(TaskState.UNSPECIFIED);
  });

  test("takes each field that explain names, in JSON or as people write it", () => {
    const after = changedTask(before, [
      "spec.resources.gpu.count=2",
      'spec.resources.gpu.models=["X","Y"]',
      'spec.resources.gpu.min_memory_mib="40000"',
      "spec.simulated=allow",
      'spec.max_runtime="600s"',
      "spec.priority=5",
    ]);
    expect(after.spec).toMatchObject({
      resources: { cpuMillis: 500n, gpu: { count: 2, models: ["X", "Y"], minMemoryMib: 40_000n } },
      simulated: SimulatedPolicy.ALLOW,
      maxRuntime: { seconds: 600n },
      priority: 5,
    });
  });

  test("loses a field that is set to null", () => {
    expect(changedTask(before, ["spec.resources.gpu=null"]).spec?.resources?.gpu).toBeUndefined();
  });

  test("is refused with the path of a field that does not exist", () => {
    expect(() => changedTask(before, ["spec.resources.gpus=2"])).toThrow(/spec\.resources\.gpus/);
    expect(() => changedTask(before, ["2"])).toThrow(/sets nothing/);
  });
});
