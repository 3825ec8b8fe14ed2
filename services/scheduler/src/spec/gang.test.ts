import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  TaskSpecSchema,
  TopologyLevel as Level,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { expect, test } from "vitest";
import { parseGang } from "./gang.ts";

const parse = (spec: MessageInitShape<typeof TaskSpecSchema>) =>
  parseGang(create(TaskSpecSchema, spec));
const gpus = (count: number) => ({ resources: { gpu: { count } } });

test("a spec without replicas is one member anywhere, an explicit one too", () => {
  expect(parse({})).toEqual({ replicas: 1, topology: {} });
  expect(parse({ replicas: 1, array: { count: 5 } })).toEqual({ replicas: 1, topology: {} });
});

test("the largest gang of the largest nodes is taken", () => {
  expect(parse({ replicas: 1_024, ...gpus(8) }).replicas).toBe(1_024);
});

test.each([
  [
    { within: Level.RACK, spreadOver: Level.NODE },
    { within: "rack", spreadOver: "node" },
  ],
  [
    { within: Level.NVLINK, spreadOver: Level.NODE },
    { within: "nvlink", spreadOver: "node" },
  ],
  [{ within: Level.NODE }, { within: "node" }],
  [{ spreadOver: Level.RACK }, { spreadOver: "rack" }],
] as const)("%j is possible", (topology, parsed) => {
  expect(parse({ replicas: 4, topology }).topology).toEqual(parsed);
});

test.each([
  [{ array: { count: 2 } }, "INVALID_FIELD", "task.spec.replicas", "array of gangs"],
  [gpus(1_024), "LIMIT_EXCEEDED", "task.spec.replicas", "9216 GPUs together"],
  [
    { topology: { within: Level.NODE, spreadOver: Level.NODE } },
    ...["INVALID_FIELD", "task.spec.topology", "within one node"],
  ],
  [
    { topology: { within: Level.NODE, spreadOver: Level.RACK } },
    ...["INVALID_FIELD", "task.spec.topology", "no two of them in one rack"],
  ],
  [
    { topology: { within: Level.NVLINK, spreadOver: Level.RACK } },
    ...["INVALID_FIELD", "task.spec.topology", "within one nvlink"],
  ],
  [
    { topology: { within: Level.RACK, spreadOver: Level.RACK } },
    ...["INVALID_FIELD", "task.spec.topology", "within one rack"],
  ],
  [
    { topology: { spreadOver: Level.NVLINK } },
    ...["INVALID_FIELD", "task.spec.topology.spread_over", "NODE or RACK"],
  ],
] as const)("nine members with %j are refused", (spec, reason, field, why) => {
  let fault: unknown;
  try {
    parse({ replicas: 9, ...spec });
  } catch (error) {
    fault = error;
  }
  expect(fault).toBeInstanceOf(Fault);
  expect(fault).toMatchObject({ reason, violations: [{ field }] });
  expect((fault as Fault).message).toContain(why);
});
