import { resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import { RemedySchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { expect, test } from "vitest";
import { submitCommand } from "./submit-command.ts";

const parent = "projects/p";
const fewer = create(RemedySchema, {
  changes: [{ fieldPath: "spec.resources.gpu.count", valueJson: "1" }],
});
const move = create(RemedySchema, { project: "projects/other" });
const commandOf = (typed: readonly string[], remedy = fewer): string =>
  submitCommand(["task", "quote", ...typed], remedy, parent);

test("is what was typed, with the change, in the project by its name", () => {
  expect(commandOf(["--gpus", "2", "--", "sh", "-c", "echo it's"])).toBe(
    "fastgpu task run --detach --project projects/p --gpus 2 --set spec.resources.gpu.count=1 -- " +
      `sh -c 'echo it'\\''s'`,
  );
  const models = create(RemedySchema, {
    changes: [{ fieldPath: "spec.resources.gpu.models", valueJson: '["NVIDIA H200"]' }],
  });
  expect(commandOf(["-g1", "--", "true"], models)).toContain(
    `-g1 --set 'spec.resources.gpu.models=["NVIDIA H200"]' -- true`,
  );
});

test("goes to the other project that a remedy names, whatever project was typed, and prints as it likes", () => {
  for (const typed of [
    ["--project", "projects/p", "-o", "json", "-q"],
    ["--project=p", "-ojson", "--quiet"],
    ["--format=table"],
  ]) {
    expect(commandOf([...typed, "-g", "1", "--", "true", "-o", "x"], move)).toBe(
      "fastgpu task run --detach --project projects/other -g 1 -- true -o x",
    );
  }
});

test("names files by their full paths; what came from standard input cannot be typed again", () => {
  const file = resolve("a task.yaml");
  for (const typed of [["-f", "a task.yaml"], ["--file=a task.yaml"], ["-fa task.yaml"]]) {
    expect(commandOf(typed, move)).toBe(
      `fastgpu task run --detach --project projects/other --file '${file}'`,
    );
  }
  expect(commandOf(["-f", "-"], move)).toBe("");
});

test("is nothing where the task stays as it is", () => {
  expect(commandOf(["-g", "1"], create(RemedySchema, { description: "wait" }))).toBe("");
});
