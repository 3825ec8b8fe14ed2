import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { QueueReason, TaskState, type Task } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describeFailures } from "@fastgpu/auditor/audit";
import { expect, test } from "vitest";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  testPlatform,
  type TestPlatform,
} from "./harness.ts";
import { clientsOf, type AllClients } from "./clients.ts";

const gpus = 8;

async function newProject(
  p: TestPlatform,
  { projects }: AllClients,
  name: string,
): Promise<string> {
  const project = await projects.createProject({
    parent: `organizations/${p.platform.org}`,
    project: { displayName: name },
    requestId: randomUUID(),
  });
  return project.name;
}

/** Holds the whole fleet until `open` is called: what is submitted meanwhile starts from an even line. */
async function closeFleet(p: TestPlatform): Promise<{ name: string; open(): Promise<void> }> {
  const gate = join(p.directory, `gate-${randomUUID()}`);
  const holds = script(`while [ ! -e ${gate} ]; do sleep 0.05; done`, { gpus });
  const { name } = await p.tasks.runTask({ parent: p.parent, task: holds });
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (task?.state === TaskState.RUNNING) break;
  }
  return { name, open: () => writeFile(gate, "") };
}

async function submit(p: TestPlatform, parent: string, tasks: readonly Task[]): Promise<string[]> {
  const items = tasks.map((task) => ({ task, requestId: randomUUID() }));
  const { outcomes } = await p.tasks.batchRunTasks({ parent, items });
  return outcomes.map(({ outcome }) => {
    if (outcome.case !== "task") throw new Error(`not submitted: ${outcome.value?.message}`);
    return outcome.value.name;
  });
}

/** Polls until the file has so many lines. */
async function waitForLines(path: string, count: number): Promise<readonly string[]> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    const lines = await linesOf(path);
    if (lines.length >= count) return lines;
    if (performance.now() > deadline) throw new Error(`only ${lines.length} of ${count} ended`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

interface Used {
  readonly task: string;
  readonly gpu: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** GPU time of a project, as billed. */
async function usageOf(p: TestPlatform, parent: string): Promise<Used[]> {
  const used: Used[] = [];
  for (let pageToken = ""; ;) {
    const page = await p.billing.listUsageRecords({ parent, pageSize: 1_000, pageToken });
    for (const { task, gpu, kind, startTime, endTime } of page.usageRecords) {
      if (kind !== UsageKind.BILLABLE || startTime === undefined || endTime === undefined) continue;
      used.push({ task, gpu, startMs: timestampMs(startTime), endMs: timestampMs(endTime) });
    }
    pageToken = page.nextPageToken;
    if (pageToken === "") return used;
  }
}

const secondsOf = (used: readonly Used[]): number =>
  used.reduce((sum, { startMs, endMs }) => sum + (endMs - startMs) / 1000, 0);

/** Most GPUs held at one moment. */
function greatestHeld(used: readonly Used[]): number {
  const changes = used
    .flatMap(({ startMs, endMs }) => [
      [startMs, 1],
      [endMs, -1],
    ])
    // Ends first: a GPU may be given on within a millisecond.
    .toSorted(([a = 0, up = 0], [b = 0, down = 0]) => a - b || up - down);
  let held = 0;
  let greatest = 0;
  for (const [, change = 0] of changes) greatest = Math.max(greatest, (held += change));
  return greatest;
}

test("projects with weights 1:3 get the fleet's GPU time 1:3 while both have work", async () => {
  await using p = await testPlatform({ simulatedGpus: gpus });
  using clients = clientsOf(p);
  const light = await newProject(p, clients, "light");
  const heavy = await newProject(p, clients, "heavy");
  const queue = { name: `${heavy}/queue`, weight: 3 };
  const set = await clients.queues.updateQueue({ queue, updateMask: { paths: ["weight"] } });
  expect(set).toMatchObject({ weight: 3, guaranteedGpus: 0, heldGpus: 0 });
  expect(set.limitGpus).toBeUndefined();

  const fleet = await closeFleet(p);
  const ended = join(p.directory, "ended");
  const work = () =>
    Array.from({ length: 100 }, () => script(`sleep 1; echo . >> ${ended}`, { gpus: 1 }));
  const [lightTasks, heavyTasks] = [await submit(p, light, work()), await submit(p, heavy, work())];
  await fleet.open();
  // At 80 completions both still have work: at 1:3 the heavy project has ended 60 of its 100.
  await waitForLines(ended, 80);
  await Promise.all([...lightTasks, ...heavyTasks].map((name) => p.tasks.cancelTask({ name })));
  await Promise.all([...lightTasks, ...heavyTasks].map((name) => endOf(p, name)));
  expect(describeFailures(await settledAudit(p))).toBe("");
  const [lightUsed, heavyUsed] = [await usageOf(p, light), await usageOf(p, heavy)];
  // GPUs are whole and tasks start one by one: a task more or less on either side is 0.4 off at this length.
  const ratio = secondsOf(heavyUsed) / secondsOf(lightUsed);
  expect(ratio, "GPU-seconds of weight 3 over weight 1").toBeGreaterThan(2.3);
  expect(ratio, "GPU-seconds of weight 3 over weight 1").toBeLessThan(3.9);
}, 300_000);

test("a limit is never passed, says so, and is heeded as soon as it is changed", async () => {
  await using p = await testPlatform({ simulatedGpus: gpus });
  using clients = clientsOf(p);
  const project = await newProject(p, clients, "limited");
  const name = `${project}/queue`;
  const limit = (limitGpus?: number) =>
    clients.queues.updateQueue({
      queue: { name, ...(limitGpus === undefined ? {} : { limitGpus }) },
      updateMask: { paths: ["limit_gpus"] },
    });
  await limit(3);
  const small = Array.from({ length: 24 }, () => script("sleep 0.3", { gpus: 1 }));
  const wide = script("true", { gpus: 4 });
  const [tooWide = "", ...tasks] = await submit(p, project, [wide, ...small]);
  for await (const { task } of p.tasks.watchTask({ name: tooWide }, { timeoutMs: 30_000 })) {
    if (task?.queueReason === QueueReason.QUOTA_EXCEEDED) break;
  }
  const ends = await Promise.all(tasks.map((task) => endOf(p, task)));
  expect(ends.every(({ state }) => state === TaskState.SUCCEEDED)).toBe(true);
  expect(describeFailures(await settledAudit(p))).toBe("");
  const used = await usageOf(p, project);
  expect(used.length).toBeGreaterThan(0);
  expect(greatestHeld(used)).toBeLessThanOrEqual(3);
  // Nothing else changes: the new limit alone makes the leader look again.
  expect((await limit()).limitGpus).toBeUndefined();
  expect((await endOf(p, tooWide)).state).toBe(TaskState.SUCCEEDED);
}, 180_000);

test("a foreign queue, an organisation's own and a viewer's wish are refused; what is out of range is named", async () => {
  await using p = await testPlatform({ simulatedGpus: 1 });
  using operator = clientsOf(p);
  const [mine, other] = [await newProject(p, operator, "a"), await newProject(p, operator, "b")];
  const org = `organizations/${p.platform.org}`;
  const keyFor = async (role: string, project: string): Promise<string> => {
    const apiKey = { displayName: role, role, project };
    return (await operator.keys.createApiKey({ parent: org, apiKey })).secret;
  };
  using viewer = clientsOf(p, await keyFor("project_viewer", mine));
  using admin = clientsOf(p, await keyFor("org_admin", ""));
  const weigh = (by: AllClients, name: string, weight: number) =>
    by.queues.updateQueue({ queue: { name, weight }, updateMask: { paths: ["weight"] } });

  expect(await viewer.queues.getQueue({ name: `${mine}/queue` })).toMatchObject({ weight: 1 });
  await expect(viewer.queues.getQueue({ name: `${other}/queue` })).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
  });
  await expect(weigh(viewer, `${mine}/queue`, 2)).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
  });
  await expect(weigh(admin, `${org}/queue`, 2)).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
  });
  expect(await weigh(admin, `${mine}/queue`, 2)).toMatchObject({ weight: 2 });
  expect(await weigh(operator, `${org}/queue`, 5)).toMatchObject({ weight: 5 });
  await expect(weigh(admin, `${mine}/queue`, 0)).rejects.toMatchObject({
    violations: [{ field: "queue.weight" }],
  });
  await expect(
    admin.queues.updateQueue({
      queue: { name: `${mine}/queue`, guaranteedGpus: 2, limitGpus: 1 },
      updateMask: { paths: ["guaranteed_gpus", "limit_gpus"] },
    }),
  ).rejects.toMatchObject({ violations: [{ field: "queue.limit_gpus" }] });
  await expect(
    admin.queues.updateQueue({ queue: { name: `${mine}/queue` }, updateMask: { paths: ["name"] } }),
  ).rejects.toMatchObject({ violations: [{ field: "update_mask" }] });
  const { queues } = await admin.queues.listQueues({ parent: org });
  expect(queues.map(({ name }) => name).toSorted()).toEqual([`${org}/queue`, `${mine}/queue`]);
}, 120_000);
