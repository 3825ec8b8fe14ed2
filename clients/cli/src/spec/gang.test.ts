import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { expect, test } from "vitest";
import { taskFromText } from "./from-file.ts";
import { type SpecOptions, taskFromOptions } from "./from-options.ts";

const nameOf = (collection: string, id: string): string => `projects/p/${collection}/${id}`;
const command = ["./train.sh"];
const process = { command };

function specOf(options: SpecOptions, text?: string) {
  const base = text === undefined ? undefined : taskFromText(text, "/specs");
  const json = toJson(TaskSchema, taskFromOptions(options, command, { base, nameOf }));
  return (json as JsonObject)["spec"];
}

test("a gang and its places are options, and fields of a file", () => {
  const gang = {
    process,
    resources: { gpu: { count: 8 } },
    replicas: 4,
    topology: { within: "TOPOLOGY_LEVEL_RACK", spreadOver: "TOPOLOGY_LEVEL_NODE" },
  };
  expect(specOf({ gpus: 8, replicas: 4, within: "rack", spreadOver: "node" })).toEqual(gang);
  const text =
    "spec: {resources: {gpu: {count: 8}}, replicas: 4, topology: {within: rack, spread_over: node}}";
  expect(specOf({}, text)).toEqual(gang);
});

test("options win over the file's gang, and one member is asked for where it is said", () => {
  const text = "spec: {replicas: 4, topology: {within: rack, spread_over: node}}";
  expect(specOf({ within: "nvlink" }, text)).toMatchObject({
    replicas: 4,
    topology: { within: "TOPOLOGY_LEVEL_NVLINK", spreadOver: "TOPOLOGY_LEVEL_NODE" },
  });
  expect(specOf({ replicas: 1 })).toMatchObject({ replicas: 1 });
  expect(specOf({})).not.toHaveProperty("replicas");
});

test.each([[{ within: "node" }], [{ replicas: 1, spreadOver: "rack" }]] as [SpecOptions][])(
  "%j without a gang is refused with what is missing",
  (options) => {
    expect(() => specOf(options)).toThrow("without a gang");
  },
);
