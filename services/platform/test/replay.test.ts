import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { listSegments } from "@fastgpu/scheduler/recording/ring";
import { replaySegments } from "@fastgpu/scheduler/replay/replay";
import { expect, test } from "vitest";
import { endOf, script, testPlatform, type TestPlatform } from "./harness.ts";

/** Submits a few dozen tasks of several kinds and waits for their ends. */
async function work(p: TestPlatform): Promise<void> {
  const items = Array.from({ length: 40 }, (_, at) => ({
    task: script("sleep 0.2", at % 4 === 0 ? {} : { gpus: 1 + (at % 2) }),
    requestId: randomUUID(),
  }));
  const { outcomes } = await p.tasks.batchRunTasks({ parent: p.parent, items });
  const names = outcomes.map(({ outcome }) =>
    outcome.case === "task" ? outcome.value.name : "not submitted",
  );
  const array = await p.tasks.runTask({ parent: p.parent, task: script("true", { array: 50 }) });
  const ends = await Promise.all([array.name, ...names].map((name) => endOf(p, name)));
  expect(ends.every(({ state }) => state === TaskState.SUCCEEDED)).toBe(true);
}

test("a platform's recording is replayed without a mismatch", async () => {
  await using p = await testPlatform({ simulatedGpus: 4 });
  await work(p);
  await p.restart();
  await work(p);
  await p.platform.stop();
  const paths = await listSegments(join(p.directory, "data", "recordings"));
  const report = await replaySegments(paths);
  expect(report.segments).toHaveLength(2);
  expect(report.segments.map(({ ended, damage }) => ({ ended, damage }))).toEqual([
    { ended: true, damage: undefined },
    { ended: true, damage: undefined },
  ]);
  expect(report.decisions).toBeGreaterThanOrEqual(82);
  expect(report).toMatchObject({ mismatches: 0 });
}, 180_000);
