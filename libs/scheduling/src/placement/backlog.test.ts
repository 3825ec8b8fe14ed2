import fc from "fast-check";
import { expect, test } from "vitest";
import { Backlog } from "./backlog.ts";
import type { QueuedTask } from "./backlog.ts";

const uuidArbitrary = fc
  .integer({ min: 0, max: 40 })
  .map((number) => `0190${"0".repeat(20)}${number.toString(16).padStart(8, "0")}`);

const taskArbitrary: fc.Arbitrary<QueuedTask> = fc.record({
  uuid: uuidArbitrary,
  shapeId: fc.integer({ min: 0, max: 2 }),
  queueId: fc.integer({ min: 0, max: 2 }),
  priority: fc.integer({ min: -5, max: 5 }),
  submittedMs: fc.integer({ min: 0, max: 2e12 }),
  elements: fc.integer({ min: 1, max: 1e6 }),
  attainedGpuSeconds: fc.integer({ min: 0, max: 1000 }),
});

const stepsArbitrary = fc.array(fc.oneof({ weight: 2, arbitrary: taskArbitrary }, uuidArbitrary), {
  maxLength: 200,
});

/** Adds tasks and removes UUIDs, beside a plain Map. */
function play(steps: readonly (QueuedTask | string)[]): {
  readonly backlog: Backlog;
  readonly model: Map<string, QueuedTask>;
} {
  const backlog = new Backlog();
  const model = new Map<string, QueuedTask>();
  for (const step of steps) {
    if (typeof step === "string") {
      expect(backlog.remove(step)).toBe(model.delete(step));
    } else {
      expect(backlog.add(step) === undefined).toBe(model.has(step.uuid));
      if (!model.has(step.uuid)) model.set(step.uuid, step);
    }
  }
  return { backlog, model };
}

test("holds what was added and not removed, each line in order of arrival", () => {
  const property = fc.property(stepsArbitrary, (steps) => {
    const { backlog, model } = play(steps);
    expect(backlog.size).toBe(model.size);
    for (const task of model.values()) expect(backlog.get(backlog.find(task.uuid)!)).toEqual(task);
    const lines = Map.groupBy(model.values(), ({ queueId, shapeId }) => `${queueId}/${shapeId}`);
    const heads = [...backlog.heads()];
    expect(heads.length).toBe(lines.size);
    for (const { queueId, shapeId, length, head } of heads) {
      const tasks = lines.get(`${queueId}/${shapeId}`)!;
      expect(length).toBe(tasks.length);
      expect(backlog.get(head)).toEqual(tasks[0]);
    }
  });
  fc.assert(property, { numRuns: 300 });
});

test("has the same hash for the same tasks in any order, and another one otherwise", () => {
  const property = fc.property(stepsArbitrary, (steps) => {
    const { backlog, model } = play(steps);
    const rebuilt = new Backlog();
    for (const task of [...model.values()].toReversed()) rebuilt.add(task);
    expect(rebuilt.hash()).toBe(backlog.hash());
    const [first] = model.values();
    if (first === undefined) return;
    rebuilt.remove(first.uuid);
    expect(rebuilt.hash()).not.toBe(backlog.hash());
    rebuilt.add({ ...first, priority: first.priority + 1 });
    expect(rebuilt.hash()).not.toBe(backlog.hash());
  });
  fc.assert(property, { numRuns: 200 });
});

test("keeps a million tasks within 64 MB", () => {
  const backlog = new Backlog();
  for (let task = 0; task < 1_000_000; task++) {
    backlog.add({
      uuid: `01900000000070008000${task.toString(16).padStart(12, "0")}`,
      shapeId: task % 1000,
      queueId: task % 7,
      priority: 0,
      submittedMs: task,
      elements: 1,
      attainedGpuSeconds: 0,
    });
  }
  expect(backlog.size).toBe(1_000_000);
  expect(backlog.bytes()).toBeLessThan(64e6);
});
