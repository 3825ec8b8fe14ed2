import { randomBytes } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { TaskSchema, type TaskSpecSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { newId } from "@fastgpu/domain/ids";
import { expect, test } from "vitest";
import { parseTask } from "../spec/task-spec.ts";
import type { StoredTask } from "../store/tasks.ts";
import { keepsPlace } from "./place-in-line.ts";

type Spec = Exclude<MessageInitShape<typeof TaskSpecSchema>, { $typeName: string }>;
type Resources = Exclude<NonNullable<Spec["resources"]>, { $typeName: string }>;

const nowMs = 1_000_000;
const project = newId("proj", nowMs, randomBytes(10));

function parsed(spec: Spec, { gpu, ...resources }: Resources = {}) {
  const full: Spec = {
    runtime: { case: "process", value: { command: ["train"] } },
    maxRuntime: durationFromMs(3_600_000),
    ...spec,
    resources: {
      ...{ cpuMillis: 4_000n, memoryMib: 1_024n, diskMib: 1_024n, ...resources },
      gpu: { count: 2, minMemoryMib: 10n, models: ["A"], ...gpu },
    },
  };
  return parseTask(create(TaskSchema, { spec: full }), { project, nowMs });
}

/** A task that has only queued; a replacement of it looks at nothing else. */
function stored(over: Partial<StoredTask> = {}): StoredTask {
  const { array: _, ...task } = parsed({ priority: 1, replicas: 2 });
  const waits = { state: "QUEUED", attemptCount: 0, waitingFor: 0, notBeforeMs: 0, user: "key-1" };
  return { ...task, ...waits, array: undefined, ...over } as unknown as StoredTask;
}

const replaced = (spec: Spec, resources: Resources = {}, old: Partial<StoredTask> = {}): boolean =>
  keepsPlace(stored(old), {
    task: parsed({ priority: 1, replicas: 2, ...spec }, resources),
    user: "key-1",
    nowMs,
  });

test("the same, or less of anything, keeps its place; so does another model, or what may be stopped", () => {
  expect(replaced({})).toBe(true);
  expect(replaced({ priority: 0 })).toBe(true);
  expect(replaced({ replicas: 1 })).toBe(true);
  expect(replaced({ maxRuntime: durationFromMs(60_000) })).toBe(true);
  expect(replaced({ preemptible: true, maxCost: { currency: "USD", nanos: 1n } })).toBe(true);
  expect(replaced({}, { gpu: { count: 1, models: [] }, cpuMillis: 1_000n })).toBe(true);
});

test.each<[string, Spec, Resources]>([
  ["GPUs", {}, { gpu: { count: 3 } }],
  ["GPU memory", {}, { gpu: { minMemoryMib: 11n } }],
  ["CPU", {}, { cpuMillis: 4_001n }],
  ["memory", {}, { memoryMib: 1_025n }],
  ["disk", {}, { diskMib: 1_025n }],
  ["members", { replicas: 3 }, {}],
  ["priority", { priority: 2 }, {}],
  ["run time", { maxRuntime: durationFromMs(3_600_001) }, {}],
  ["grace", { stopGrace: durationFromMs(20_000) }, {}],
  ["elements", { array: { count: 2 }, replicas: 0, priority: 0 }, {}],
  ["a later start", { startAfter: timestampFromMs(nowMs + 1) }, {}],
])("more %s goes to the end of the line", (_, spec, resources) => {
  expect(replaced(spec, resources)).toBe(false);
});

test("what has run, waited for others or for a time, or is another's, hands no place on", () => {
  expect(replaced({}, {}, { attemptCount: 1 })).toBe(false);
  expect(replaced({}, {}, { waitingFor: 1 })).toBe(false);
  expect(replaced({}, {}, { notBeforeMs: nowMs + 1 })).toBe(false);
  expect(replaced({}, {}, { user: "key-2" })).toBe(false);
  expect(replaced({}, {}, { state: "DRAFT" })).toBe(false);
});
