import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { TaskSchema, type TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { newId } from "@fastgpu/domain/ids";
import { describe, expect, test } from "vitest";
import { parseTask } from "./task-spec.ts";

const nowMs = 1_000_000_000_000;
const project = newId("proj", 0, new Uint8Array(10));
type Spec = Exclude<MessageInitShape<typeof TaskSpecSchema>, { $typeName: string }>;

const parse = (more: Spec) => {
  const spec: Spec = { runtime: { case: "process", value: { command: ["true"] } }, ...more };
  return parseTask(create(TaskSchema, { spec }), { project, nowMs });
};

describe("a task's start", () => {
  test("is kept where it is to come, and means at once where it has passed", () => {
    const at = (ms: number) => parse({ startAfter: timestampFromMs(ms) }).startAfterMs;
    expect([at(nowMs + 5), at(nowMs), at(0), parse({}).startAfterMs]).toEqual([nowMs + 5, 0, 0, 0]);
  });

  test("is within a year", () => {
    const startAfter = timestampFromMs(nowMs + 367 * 86_400_000);
    expect(() => parse({ startAfter })).toThrow(/start_after: must be within 366 days/);
  });
});

test("a task is stopped for others only where it says so", () => {
  expect([parse({}).preemptible, parse({ preemptible: true }).preemptible]).toEqual([false, true]);
});

test.each([
  "projects/other/artifacts/ART",
  "projects/OTHER/artifacts/ART",
  "artifacts/ART",
  "ART",
  "projects/OWN/artifacts/art-1",
  "projects/OWN/artifacts/ART/x",
  "projects/OWN/tasks/ART",
  "/projects/OWN/artifacts/ART",
])("an input %s is refused: it is none of the task's own project", (text) => {
  const [other, art] = [newId("proj", 1, new Uint8Array(10)), newId("art", 0, new Uint8Array(10))];
  const of = (name: string) =>
    name.replace("OWN", project).replace("OTHER", other).replace("ART", art);
  const inputs = [
    { artifact: of("projects/OWN/artifacts/ART"), path: "a" },
    { artifact: of(text), path: "b" },
  ];
  expect(parse({ inputs: inputs.slice(0, 1) }).spec.length).toBeGreaterThan(0);
  expect(() => parse({ inputs })).toThrow(/inputs\[1\]\.artifact: must be projects/);
});

test.each([
  [["H100", "H100"], /models\[1\]: is named twice/],
  [[" H100"], /models\[0\]: must be a model/],
  [["H\u0000"], /models\[0\]: must be a model/],
])("GPU models %j are refused", (models, message) => {
  expect(() => parse({ resources: { gpu: { count: 1, models } } })).toThrow(message);
});
