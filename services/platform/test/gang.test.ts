import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { describeFailures } from "@fastgpu/auditor/audit";
import {
  AttemptState,
  ExitClass,
  QueueReason,
  TaskState,
  TopologyLevel,
  type Attempt,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  shortLeases,
  stateName,
  testPlatform,
  withSpec,
  type TestPlatform,
} from "./harness.ts";

// Three workers with two GPUs each, every one a process of its own; the gangs have three members.

let p: TestPlatform;
let file: string;
beforeAll(async () => {
  // Long enough for a killed worker to come back within its lease on a busy machine.
  const leases = { ...shortLeases, FASTGPU_SCHEDULER__LEASE_TTL_MS: "25000" };
  const env = { ...leases, FASTGPU_WORKER__TOPOLOGY: "{ rack: r1 }" };
  p = await testPlatform({ split: true, workers: 3, env });
  await mkdir(join(p.directory, "effects"), { recursive: true, mode: 0o777 });
  file = join(p.directory, "effects", "log");
}, 120_000);
afterAll(() => p[Symbol.asyncDispose]());

/** A gang of three, one GPU each. */
function gang(text: string, more: Parameters<typeof withSpec>[1] = {}): Task {
  return withSpec(script(text, { gpus: 1 }), { replicas: 3, ...more });
}

async function run(task: Task): Promise<string> {
  return (await p.tasks.runTask({ parent: p.parent, task })).name;
}

async function until(name: string, wanted: (task: Task) => boolean): Promise<Task> {
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 60_000 })) {
    if (task !== undefined && wanted(task)) return task;
  }
  throw new Error(`${name} ended before it came to that`);
}

const running = (name: string, attempt = 1): Promise<Task> =>
  until(name, (task) => task.state === TaskState.RUNNING && task.attemptCount === attempt);

/** Waits until a node is heard of again after a moment. */
async function cameBack(node: string, sinceMs: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const { lastSeenTime } = await p.nodes.getNode({ name: node });
      expect(lastSeenTime && timestampMs(lastSeenTime)).toBeGreaterThan(sinceMs);
    },
    { timeout: 30_000, interval: 100 },
  );
}

async function attemptsOf(name: string): Promise<readonly Attempt[]> {
  return (await p.tasks.listAttempts({ parent: name })).attempts;
}

async function logOf(name: string, rank?: number): Promise<{ rank?: number; text: string }[]> {
  const records: { rank?: number; text: string }[] = [];
  const request = { name, ...(rank === undefined ? {} : { rank }) };
  for await (const part of p.tasks.readLogs(request)) {
    for (const { rank: of, data } of part.records) {
      records.push({
        text: Buffer.from(data).toString(),
        ...(of === undefined ? {} : { rank: of }),
      });
    }
  }
  return records;
}

/** Pid of the worker of a node. */
async function workerOf(node: string): Promise<number> {
  const { nodes } = await p.nodes.listNodes({});
  const n = nodes.find((each) => each.name === node)?.displayName.split("-")[1];
  return p.platform.pids().get(`worker-${n}`) ?? 0;
}

async function gpusOf(name: string): Promise<number> {
  const { gpus } = await p.nodes.listGpus({ parent: "nodes/-" });
  return gpus.filter((gpu) => gpu.task === name).length;
}

test("a gang of three over two nodes: ranks, results of all, and a bill that is the sum of its members'", async () => {
  const text =
    'echo "rank $RANK of $WORLD_SIZE"; echo "$FASTGPU_GANG_NODES" | tr , "\\n" | sort -u | wc -l > $FASTGPU_OUTPUT_DIR/nodes; ' +
    "echo $FASTGPU_GANG_RANK > $FASTGPU_OUTPUT_DIR/r; sleep 1";
  const name = await run(gang(text));
  const task = await endOf(p, name);
  expect(stateName(task), task.statusMessage).toBe("TASK_STATE_SUCCEEDED");
  expect(task.gpus).toHaveLength(3);
  const [attempt] = await attemptsOf(name);
  expect(attempt?.members.map(({ rank }) => rank)).toEqual([0, 1, 2]);
  expect(new Set(attempt?.members.map(({ node }) => node)).size).toBeGreaterThanOrEqual(2);
  expect(new Set(attempt?.members.flatMap(({ gpus }) => gpus.map(({ gpu }) => gpu))).size).toBe(3);
  for (const member of attempt?.members ?? []) {
    expect(member).toMatchObject({ state: AttemptState.ENDED, exitClass: ExitClass.OK });
  }
  expect(task.result?.files.map(({ path }) => path)).toEqual([
    ...["nodes", "r", "rank-1/nodes", "rank-1/r", "rank-2/nodes", "rank-2/r"],
  ]);
  expect(await logOf(name)).toEqual(
    [0, 1, 2].map((rank) => ({ rank, text: `rank ${rank} of 3\n` })),
  );
  expect(await logOf(name, 1)).toEqual([{ rank: 1, text: "rank 1 of 3\n" }]);

  expect(describeFailures(await settledAudit(p))).toBe("");
  const usage = await usageOf(name);
  expect(new Set(usage.map(({ gpu }) => gpu)).size).toBe(3);
  const sum = usage.reduce((total, { amount }) => total + (amount?.nanos ?? 0n), 0n);
  expect(sum).toBeGreaterThan(0n);
  expect((await p.tasks.getTask({ name })).cost?.nanos).toBe(sum);
}, 120_000);

async function usageOf(name: string) {
  const { usageRecords } = await p.billing.listUsageRecords({ parent: p.parent, pageSize: 1_000 });
  return usageRecords.filter(({ task }) => task === name || name.endsWith(`/${task}`));
}

test("a member that fails stops the others, with their grace, and its exit code is the task's", async () => {
  const text =
    `trap 'echo "stopped $RANK" >> ${file}; exit 0' TERM; echo "begun $RANK" >> ${file}; ` +
    `if [ $RANK = 1 ]; then while [ $(grep -c begun ${file}) -lt 3 ]; do sleep 0.05; done; exit 7; fi; ` +
    "while :; do sleep 0.05; done";
  const name = await run(gang(text));
  const task = await endOf(p, name);
  expect(stateName(task)).toBe("TASK_STATE_FAILED");
  expect(task).toMatchObject({ exitClass: ExitClass.USER_EXIT, exitCode: 7, attemptCount: 1 });
  expect(task.statusMessage).toContain("rank 1");
  const [attempt] = await attemptsOf(name);
  expect(attempt?.members.map(({ exitClass }) => exitClass)).toEqual([
    ...[ExitClass.GANG_STOPPED, ExitClass.USER_EXIT, ExitClass.GANG_STOPPED],
  ]);
  const lines = await linesOf(file);
  expect(lines.filter((line) => line.startsWith("stopped")).toSorted()).toEqual([
    ...["stopped 0", "stopped 2"],
  ]);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 120_000);

test("a killed worker finds its members again and the gang goes on; a lost one costs the whole gang its attempt, at no retry", async () => {
  const go = join(p.directory, "effects", "go");
  const at = 'at() { cut -d" " -f1 /proc/uptime; }; ';
  const text =
    `${at} echo "begin $FASTGPU_ATTEMPT $RANK $(at)" >> ${file}; ` +
    `until [ -e ${go} ]; do sleep 0.1; echo "alive $FASTGPU_ATTEMPT $RANK $(at)" >> ${file}; done`;
  const retry = { retry: { maxRetries: 0 } };
  const name = await run(gang(text, retry));
  const first = await running(name);
  process.kill(await workerOf(first.node), "SIGKILL");
  await cameBack(first.node, Date.now());
  const [attempt] = await attemptsOf(name);
  const victim = attempt?.members.find(({ node }) => node !== first.node)?.node ?? "";
  const pid = await workerOf(victim);
  process.kill(pid, "SIGSTOP");
  try {
    const second = await running(name, 2);
    expect(second.gpus.map(({ gpu }) => gpu).join()).not.toContain(victim);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await run(script(`touch ${go}`));
  const task = await endOf(p, name);
  expect(stateName(task), task.statusMessage).toBe("TASK_STATE_SUCCEEDED");
  expect(task.attemptCount).toBe(2);
  const [lost] = await attemptsOf(name);
  expect(lost?.exitClass).toBe(ExitClass.NODE_LOST);
  expect(lost?.members.find(({ node }) => node === first.node)?.exitClass).toBe(
    ExitClass.GANG_STOPPED,
  );

  const lines = (await linesOf(file)).map((line) => line.split(" "));
  const times = lines.filter(([what]) => what === "begin" || what === "alive");
  const [before, after] = [...new Set(times.map(([, of]) => of))].map((of) =>
    times.filter(([, each]) => each === of).map(([, , , time]) => Number(time)),
  );
  expect(Math.max(...(before ?? []))).toBeLessThan(Math.min(...(after ?? [])));
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 180_000);

test("a gang that does not fit waits whole, holding nothing, and starts once it does; a cancel stops all of it", async () => {
  const wait = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
  const blockers = [await run(script(wait, { gpus: 2 })), await run(script(wait, { gpus: 2 }))];
  for (const blocker of blockers) await running(blocker);
  const name = await run(gang(wait));
  const waiting = await until(name, (task) => task.queueReason === QueueReason.NO_CAPACITY);
  expect(waiting.state).toBe(TaskState.QUEUED);
  expect(await gpusOf(name)).toBe(0);
  expect(await attemptsOf(name)).toEqual([]);
  await p.tasks.cancelTask({ name: blockers[0]! });
  await running(name);
  expect(await gpusOf(name)).toBe(3);
  await p.tasks.cancelTask({ name });
  const task = await endOf(p, name);
  expect(stateName(task)).toBe("TASK_STATE_CANCELLED");
  const [attempt] = await attemptsOf(name);
  expect(attempt?.members.map(({ exitClass }) => exitClass)).toEqual(
    Array.from({ length: 3 }, () => ExitClass.CANCELLED),
  );
  await p.tasks.cancelTask({ name: blockers[1]! });
  for (const blocker of blockers) await endOf(p, blocker);
  expect(await gpusOf(name)).toBe(0);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 120_000);

test("members lie as they are asked to, and what this fleet cannot do waits with the reason", async () => {
  const { nodes } = await p.nodes.listNodes({});
  expect(nodes.map(({ topology }) => topology)).toEqual([1, 2, 3].map(() => ({ rack: "r1" })));
  const { NODE, NVLINK, RACK } = TopologyLevel;
  for (const [topology, places] of [
    [{ within: RACK, spreadOver: NODE }, 3],
    [{ spreadOver: NODE }, 3],
  ] as const) {
    const name = await run(gang("true", { topology }));
    const task = await endOf(p, name);
    expect(stateName(task), task.statusMessage).toBe("TASK_STATE_SUCCEEDED");
    const [attempt] = await attemptsOf(name);
    expect(new Set(attempt?.members.map(({ node }) => node)).size).toBe(places);
  }
  const pair = await run(gang("true", { replicas: 2, topology: { within: NODE } }));
  expect((await endOf(p, pair)).state).toBe(TaskState.SUCCEEDED);
  const [together] = await attemptsOf(pair);
  expect(new Set(together?.members.map(({ node }) => node)).size).toBe(1);
  for (const topology of [{ within: NODE }, { within: NVLINK }, { spreadOver: RACK }]) {
    const name = await run(gang("true", { topology }));
    const task = await until(name, ({ queueReason }) => queueReason === QueueReason.UNSATISFIABLE);
    expect(task.statusMessage).not.toBe("");
    await p.tasks.cancelTask({ name });
  }
}, 120_000);

test("what no gang can be is refused with the field", async () => {
  const within = TopologyLevel.NODE;
  for (const [task, field] of [
    [gang("true", { array: { count: 2 } }), "task.spec.replicas"],
    [gang("true", { replicas: 1_025 }), "task.spec.replicas"],
    [gang("true", { topology: { within, spreadOver: within } }), "task.spec.topology"],
  ] as const) {
    const refusal = p.tasks.runTask({ parent: p.parent, task });
    await expect(refusal).rejects.toMatchObject({ violations: [{ field }] });
  }
});
