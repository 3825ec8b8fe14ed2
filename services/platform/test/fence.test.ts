import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describeFailures } from "@fastgpu/auditor/audit";
import { expect, test } from "vitest";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  shortLeases,
  stateName,
  testPlatform,
} from "./harness.ts";

/**
 * The worker is stopped, not killed: it cannot see that its lease ends, and afterwards it tells what it believes.
 * Its keeper ends the attempt at the lease's end; another worker runs the task; what the first one says is fenced.
 */
test("a worker that is paused past its lease has no effect any more (I3), and runs never overlap (I4)", async () => {
  await using p = await testPlatform({ split: true, workers: 2, env: shortLeases });
  const directory = join(p.directory, "effects");
  await mkdir(directory, { recursive: true, mode: 0o777 });
  const file = join(directory, "log");
  const at = 'at() { cut -d" " -f1 /proc/uptime; }; ';
  const text =
    `${at} echo "begin $FASTGPU_ATTEMPT $(at)" >> ${file}; ` +
    `for i in $(seq 1 80); do sleep 0.1; echo "alive $FASTGPU_ATTEMPT $(at)" >> ${file}; done; ` +
    `echo "end $FASTGPU_ATTEMPT $(at)" >> ${file}`;
  const { name } = await p.tasks.runTask({ parent: p.parent, task: script(text) });
  let node = "";
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    node = task?.node ?? "";
    if (task?.state === TaskState.RUNNING) break;
  }
  const { nodes } = await p.nodes.listNodes({});
  const victim =
    nodes.find((each) => each.name === node)?.displayName === "local-1" ? "worker-1" : "worker-2";
  const pid = p.platform.pids().get(victim) ?? 0;
  process.kill(pid, "SIGSTOP");
  try {
    const second = await runsAgain(p, name);
    expect(second.node).not.toBe(node);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  const end = await endOf(p, name, 60_000);
  expect(stateName(end)).toBe("TASK_STATE_SUCCEEDED");
  expect(end.attemptCount).toBe(2);

  const lines = (await linesOf(file)).map((line) => line.split(" "));
  const [first, second] = [...new Set(lines.map(([, attempt]) => attempt))];
  const times = (attempt: string | undefined) =>
    lines.filter(([, of]) => of === attempt).map(([, , time]) => Number(time));
  expect(lines.some(([what, attempt]) => what === "end" && attempt === first)).toBe(false);
  expect(Math.max(...times(first))).toBeLessThan(Math.min(...times(second)));
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 180_000);

async function runsAgain(p: Awaited<ReturnType<typeof testPlatform>>, name: string) {
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 60_000 })) {
    if (task?.state === TaskState.RUNNING && task.attemptCount === 2) return task;
  }
  throw new Error("the task was not given to the other worker");
}
