import fc from "fast-check";
import { expect, test } from "vitest";
import { Backlog } from "./backlog.ts";
import type { QueuedTask } from "./backlog.ts";

const uuidArbitrary = fc
  .integer({ min: 0, max: 40 })
  .map((number) => `0190${"0".repeat(20)}${number.toString(16).padStart(8, "0")}`);

const taskArbitrary: fc.Arbitrary<QueuedTask> = fc.record({
  uuid: uuidArbitrary,
  classId: fc.integer({ min: 0, max: 2 }),
  queueId: fc.integer({ min: 0, max: 2 }),
  submittedMs: fc.integer({ min: 0, max: 2e12 }),
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
    const lines = Map.groupBy(model.values(), ({ queueId, classId }) => `${queueId}/${classId}`);
    const heads = [...backlog.heads()];
    expect(heads.length).toBe(lines.size);
    for (const { queueId, classId, length, head } of heads) {
      const tasks = lines.get(`${queueId}/${classId}`)!;
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
    rebuilt.add({ ...first, submittedMs: first.submittedMs + 1 });
    expect(rebuilt.hash()).not.toBe(backlog.hash());
  });
  fc.assert(property, { numRuns: 200 });
});

test("keeps a million tasks within 64 MB", () => {
  const backlog = new Backlog();
  for (let task = 0; task < 1_000_000; task++) {
    backlog.add({
      uuid: `01900000000070008000${task.toString(16).padStart(12, "0")}`,
      classId: task % 1000,
      queueId: task % 7,
      submittedMs: task,
    });
  }
  expect(backlog.size).toBe(1_000_000);
  expect(backlog.bytes()).toBeLessThan(64e6);
});
