import { CreateTaskRequestSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import type { JsonValue } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { describe, expect, test } from "vitest";
import { checkJson } from "./json-fields.ts";

function faultOf(json: JsonValue): Fault | undefined {
  try {
    checkJson(CreateTaskRequestSchema, json);
    return undefined;
  } catch (error) {
    return Fault.from(error);
  }
}

const fieldsOf = (json: JsonValue) => faultOf(json)?.violations.map(({ field }) => field);

describe("JSON that is accepted", () => {
  test.each<[string, JsonValue]>([
    ["nothing", {}],
    ["both spellings", { parent: "projects/p", request_id: "a", requestId: "a" }],
    ["free keys of a map", { task: { spec: { env: { anything: "goes" } } } }],
    ["null for absent", { task: null }],
  ])("%s", (_, json) => {
    const fault = faultOf(json);
    expect(fault === undefined || fault.reason === "INVALID_FIELD").toBe(true);
    expect(fault?.reason).not.toBe("UNKNOWN_FIELD");
  });
});

describe("JSON that is refused names the path", () => {
  test.each<[string, JsonValue, string[]]>([
    ["at the top", { parnet: "projects/p" }, ["parnet"]],
    ["inside a message", { task: { spec: { resurces: {} } } }, ["task.spec.resurces"]],
    [
      "inside a list",
      { task: { spec: { dependsOn: [{ task: "t" }, { tsk: "t" }] } } },
      ["task.spec.dependsOn[1].tsk"],
    ],
    ["of each", { a: 1, task: { b: 2 } }, ["a", "task.b"]],
  ])("of an unknown field %s", (_, json, fields) => {
    expect(faultOf(json)?.reason).toBe("UNKNOWN_FIELD");
    expect(fieldsOf(json)).toEqual(fields);
  });

  test.each<[string, JsonValue, string]>([
    [
      "a text for a number",
      { task: { spec: { resources: { gpu: { count: "x" } } } } },
      "task.spec.resources.gpu.count",
    ],
    ["a number for a text", { parent: 7 }, "parent"],
    ["an unknown word of an enum", { task: { state: "FAST" } }, "task.state"],
    ["a text for a message", { task: { spec: "x" } }, "task.spec"],
  ])("of %s", (_, json, field) => {
    expect(faultOf(json)?.reason).toBe("INVALID_FIELD");
    expect(fieldsOf(json)).toEqual([field]);
  });

  test("of what is no object at all", () => {
    expect(faultOf("x")?.reason).toBe("INVALID_FIELD");
    expect(faultOf([])?.reason).toBe("INVALID_FIELD");
  });
});
