import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import {
  ExitClass,
  QueueReason,
  TaskState,
  type Attempt,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describeFailures, openAuditor } from "@fastgpu/auditor/audit";
import { idToUuid, parseId } from "@fastgpu/domain/ids";
import { quiet } from "@fastgpu/testkit/log";
import { expect, test } from "vitest";
import { replayRecordings } from "../src/replay.ts";
import { startKillable } from "./composed-child.ts";
import {
  endOf,
  linesOf,
  script,
  settledAudit,
  shortLeases,
  testPlatform,
  withSpec,
  type Clients,
  type Reachable,
} from "./harness.ts";
import { clientsOf } from "./clients.ts";

/** A platform under these tests, wherever it runs. */
interface Fleet extends Clients {
  readonly platform: Pick<Reachable, "address" | "org" | "auditorUrl">;
  readonly directory: string;
}

/** Victims may be stopped after a second: the shipped ten minutes are too long for a test. */
const soon = "order:\n  minRunMs: 1000\n";

/** The first organisation gets so many GPUs guaranteed; another one has a key, a project and money. */
async function twoTenants(p: Fleet, guaranteedGpus: number) {
  using operator = clientsOf(p);
  await operator.policies.setSchedulingPolicy({ source: soon });
  await operator.queues.updateQueue({
    queue: { name: `organizations/${p.platform.org}/queue`, guaranteedGpus },
    updateMask: { paths: ["guaranteed_gpus"] },
  });
  const { name: parent } = await operator.organizations.createOrganization({
    organization: { displayName: "borrower" },
  });
  const apiKey = { displayName: "admin", role: "org_admin" };
  const { secret } = await operator.keys.createApiKey({ parent, apiKey });
  await operator.billing.grantCredit({
    name: `${parent}/balance`,
    amountNanos: 1_000_000_000_000n,
    requestId: randomUUID(),
  });
  using theirs = clientsOf(p, secret);
  const project = await theirs.projects.createProject({ parent, project: { displayName: "p" } });
  return { key: secret, parent: project.name };
}

/**
 * A training of so many steps that says when it begins and where, saves at each step and when it is told to stop, and
 * ends with what it did in all.
 */
function training(p: Fleet, name: string, steps: number, over: Parameters<typeof withSpec>[1]) {
  const log = join(p.directory, "log");
  const text = [
    `n=$(cat "$FASTGPU_CHECKPOINT_DIR/n" 2>/dev/null || echo 0)`,
    `trap 'echo "stop ${name} $n" >> ${log}; exit 75' TERM`,
    `echo "begin ${name} $n" >> ${log}`,
    `while [ $n -lt ${steps} ]; do sleep 0.1; n=$((n+1)); echo $n > "$FASTGPU_CHECKPOINT_DIR/n"`,
    `echo "{\\"step\\":$n,\\"of\\":${steps},\\"checkpoint\\":true}" >&3; done`,
    `echo "end ${name} $n" >> ${log}`,
  ].join("\n");
  return withSpec(script(text, { gpus: 1 }), over);
}

const logOf = (p: Fleet) => linesOf(join(p.directory, "log"));

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`it never came: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const begun = (p: Fleet, name: string) =>
  until(`${name} begins`, async () =>
    (await logOf(p)).some((line) => line.startsWith(`begin ${name} `)) ? true : undefined,
  );

/** The task once a look at it holds. */
const taskWhen = (tasks: Clients["tasks"], name: string, here: (task: Task) => boolean) =>
  until(`${name} as wanted`, async () => {
    const task = await tasks.getTask({ name });
    return here(task) ? task : undefined;
  });

/** Billed or not, the stretches of a GPU's time that tasks of an organisation had, in order. */
async function stretches(billing: Clients["billing"], parent: string) {
  const { usageRecords } = await billing.listUsageRecords({ parent, pageSize: 1_000 });
  return usageRecords.map((record) => ({
    gpu: record.gpu,
    task: record.task,
    kind: record.kind,
    startMs: record.startTime === undefined ? 0 : timestampMs(record.startTime),
    endMs: record.endTime === undefined ? 0 : timestampMs(record.endTime),
  }));
}

/** Until when storage keeps a task's checkpoints, in milliseconds. */
async function checkpointEnds(p: Fleet, task: string): Promise<number[]> {
  const id = parseId("task", task.split("/").at(-1) ?? "");
  await using auditor = openAuditor({ url: p.platform.auditorUrl, log: quiet });
  const rows = await auditor.query<{ expires_ms: bigint }>(
    {
      name: "checkpoint_ends",
      text: "select expires_ms from storage.checkpoints where task_id = $1",
    },
    [id === undefined ? null : idToUuid(id)],
  );
  return rows.map((row) => Number(row.expires_ms));
}

const classes = (attempts: readonly Attempt[]): ExitClass[] =>
  attempts.map(({ exitClass }) => exitClass);

test("a guaranteed queue takes back borrowed GPUs: the preemptible task saves, waits and goes on; no other is touched", async () => {
  await using p = await testPlatform({ simulatedGpus: 2, env: shortLeases });
  const borrower = await twoTenants(p, 1);
  using theirs = clientsOf(p, borrower.key);
  const run = async (name: string, steps: number, preemptible: boolean): Promise<string> => {
    const task = training(p, name, steps, { preemptible });
    return (await theirs.tasks.runTask({ parent: borrower.parent, task })).name;
  };
  const fixed = await run("fixed", 120, false);
  await begun(p, "fixed");
  const loan = await run("loan", 60, true);
  await begun(p, "loan");
  // In line for whatever becomes free, and before the owner's task by its submit.
  const greedy = await run("greedy", 5, true);
  await taskWhen(theirs.tasks, loan, ({ progress }) => (progress?.step ?? 0n) >= 15n);

  const mine = await p.tasks.runTask({
    parent: p.parent,
    task: training(p, "owner", 20, { preemptible: false }),
  });
  const stopped = await taskWhen(theirs.tasks, loan, ({ preemptions }) => preemptions === 1);
  expect(stopped.attemptCount).toBe(1);
  expect((await endOf(p, mine.name)).state).toBe(TaskState.SUCCEEDED);
  const ends = await Promise.all([fixed, loan, greedy].map((name) => endOf(theirs, name, 120_000)));
  expect(ends.map(({ state }) => state)).toEqual(ends.map(() => TaskState.SUCCEEDED));

  const { attempts } = await theirs.tasks.listAttempts({ parent: loan });
  expect(classes(attempts)).toEqual([ExitClass.PREEMPTED, ExitClass.OK]);
  const [first] = attempts;
  expect(first?.message).toBe(
    "stopped in favour of a task of another organisation: it queues again and goes on from its checkpoint",
  );
  expect(first?.checkpointTime).toBeDefined();
  expect(ends[1]).toMatchObject({ preemptions: 1, attemptCount: 2 });
  expect(ends[1]?.gpuTime?.seconds).toBeGreaterThan(2n);
  // What cannot go on was left alone, though it ran as long.
  expect(ends[0]).toMatchObject({ preemptions: 0, attemptCount: 1 });

  const log = await logOf(p);
  const saved = Number(log.find((line) => line.startsWith("stop loan"))?.split(" ")[2]);
  expect(saved).toBeGreaterThanOrEqual(15);
  expect(log.filter((line) => line.includes(" loan "))).toEqual([
    "begin loan 0",
    `stop loan ${saved}`,
    `begin loan ${saved}`,
    "end loan 60",
  ]);
  expect(describeFailures(await settledAudit(p))).toBe("");
  // Between the victim and the preemptor the GPU was nobody's, though others waited for it.
  const [lent, own] = [
    await stretches(theirs.billing, borrower.parent),
    await stretches(p.billing, p.parent),
  ];
  const owners = own.filter(({ kind }) => kind === UsageKind.BILLABLE);
  expect(owners.length).toBeGreaterThan(0);
  const [{ gpu, startMs }] = own as [(typeof own)[number]];
  const freedMs = Math.max(
    ...lent.filter((each) => each.gpu === gpu && each.endMs <= startMs).map(({ endMs }) => endMs),
  );
  const before = lent.filter((each) => each.gpu === gpu && each.endMs === freedMs);
  expect(before.map(({ task }) => task)).toEqual([loan]);
  // What was decided can be decided again, preemptions too.
  await p.platform.stop();
  const dataDir = join(p.directory, "data");
  const replayed = { files: [], dataDir, fromMs: undefined, toMs: undefined };
  expect(await replayRecordings(replayed)).toMatchObject({ mismatches: 0, segments: [{}] });
}, 240_000);

test("a task that was stopped on one worker goes on from its checkpoint on another one", async () => {
  await using p = await testPlatform({ workers: 2, simulatedGpus: 1, env: shortLeases });
  const borrower = await twoTenants(p, 1);
  using theirs = clientsOf(p, borrower.key);
  const run = async (name: string, steps: number, preemptible: boolean): Promise<string> => {
    const task = training(p, name, steps, { preemptible });
    return (await theirs.tasks.runTask({ parent: borrower.parent, task })).name;
  };
  const fixed = await run("fixed", 80, false);
  const loan = await run("loan", 50, true);
  await Promise.all([begun(p, "fixed"), begun(p, "loan")]);
  await taskWhen(theirs.tasks, loan, ({ progress }) => (progress?.step ?? 0n) >= 15n);
  // Its worker is taken for so long that the other one is free first.
  const task = training(p, "owner", 600, { preemptible: false });
  const mine = (await p.tasks.runTask({ parent: p.parent, task })).name;
  expect((await endOf(theirs, loan, 120_000)).state).toBe(TaskState.SUCCEEDED);
  expect((await endOf(theirs, fixed)).state).toBe(TaskState.SUCCEEDED);
  const { attempts } = await theirs.tasks.listAttempts({ parent: loan });
  expect(classes(attempts)).toEqual([ExitClass.PREEMPTED, ExitClass.OK]);
  expect(attempts.map(({ checkpointStored }) => checkpointStored)).toEqual([true, false]);
  expect(attempts[0]?.node).not.toBe(attempts[1]?.node);
  const lines = (await logOf(p)).filter((line) => line.includes(" loan "));
  const saved = Number(lines[1]?.split(" ")[2]);
  expect(saved).toBeGreaterThanOrEqual(15);
  expect(lines).toEqual([
    "begin loan 0",
    `stop loan ${saved}`,
    `begin loan ${saved}`,
    "end loan 50",
  ]);
  // What is in storage for it goes with it.
  await until("its checkpoint may go", async () => {
    const ends = await checkpointEnds(p, loan);
    return ends.length === 1 && ends.every((ms) => ms <= Date.now()) ? true : undefined;
  });
  await p.tasks.cancelTask({ name: mine });
  await endOf(p, mine);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 240_000);

test("a task that needs a whole node starts since a small one moves to another, where that goes on at once", async () => {
  await using p = await testPlatform({ workers: 2, simulatedGpus: 2, env: shortLeases });
  using operator = clientsOf(p);
  await operator.policies.setSchedulingPolicy({ source: soon });
  const run = async (task: ReturnType<typeof training>) =>
    (await p.tasks.runTask({ parent: p.parent, task })).name;
  const small = async (name: string) => {
    const task = await run(training(p, name, 1_000, { preemptible: true }));
    await begun(p, name);
    return task;
  };
  // One on each node: between them something else fills up the first.
  const one = await small("one");
  const between = await small("between");
  const other = await small("other");
  await p.tasks.cancelTask({ name: between });
  await endOf(p, between);
  for (const name of [one, other]) {
    await taskWhen(p.tasks, name, ({ progress }) => (progress?.step ?? 0n) >= 15n);
  }

  const gate = join(p.directory, "gate");
  const wide = await run(script(`while [ ! -e ${gate} ]; do sleep 0.05; done`, { gpus: 2 }));
  const moved = await until("one of them has moved", async () => {
    const both = await Promise.all([one, other].map((name) => p.tasks.getTask({ name })));
    return both.find(({ preemptions }) => preemptions === 1);
  });
  const name = moved.name === one ? "one" : "other";
  // Both run at a time, until the gate opens.
  await taskWhen(p.tasks, wide, ({ state }) => state === TaskState.RUNNING);
  const running = ({ state }: Task) => state === TaskState.RUNNING;
  await taskWhen(p.tasks, moved.name, running);
  await until(`${name} begins again`, async () =>
    (await logOf(p)).filter((line) => line.startsWith(`begin ${name} `)).length === 2
      ? true
      : undefined,
  );
  await writeFile(gate, "");
  expect((await endOf(p, wide)).state).toBe(TaskState.SUCCEEDED);
  const { attempts } = await p.tasks.listAttempts({ parent: moved.name });
  expect(attempts).toHaveLength(2);
  expect(attempts[0]).toMatchObject({
    exitClass: ExitClass.PREEMPTED,
    message: `moved to make room for ${wide.split("/").at(-1)}: it goes on from its checkpoint on other GPUs`,
  });
  expect(attempts[1]?.node).not.toBe(attempts[0]?.node);
  const lines = (await logOf(p)).filter((line) => line.includes(` ${name} `));
  const saved = Number(lines[1]?.split(" ")[2]);
  expect(saved).toBeGreaterThanOrEqual(15);
  expect(lines.slice(0, 3)).toEqual([
    `begin ${name} 0`,
    `stop ${name} ${saved}`,
    `begin ${name} ${saved}`,
  ]);
  const stayed = await p.tasks.getTask({ name: moved.name === one ? other : one });
  expect(stayed).toMatchObject({ preemptions: 0, attemptCount: 1, state: TaskState.RUNNING });
  for (const task of [one, other]) await p.tasks.cancelTask({ name: task });
  await Promise.all([one, other].map((task) => endOf(p, task)));
  expect(describeFailures(await settledAudit(p))).toBe("");
  await p.platform.stop();
  const dataDir = join(p.directory, "data");
  const replayed = { files: [], dataDir, fromMs: undefined, toMs: undefined };
  expect(await replayRecordings(replayed)).toMatchObject({ mismatches: 0, segments: [{}] });
}, 240_000);

test("nobody is stopped for a task that cannot pay; with money for it the same task takes its GPU", async () => {
  const env = { ...shortLeases, FASTGPU_BILLING__STARTING_CREDIT_USD: "0" };
  await using p = await testPlatform({ simulatedGpus: 1, env });
  const borrower = await twoTenants(p, 1);
  using theirs = clientsOf(p, borrower.key);
  const task = training(p, "loan", 150, { preemptible: true });
  const loan = (await theirs.tasks.runTask({ parent: borrower.parent, task })).name;
  await begun(p, "loan");
  await taskWhen(theirs.tasks, loan, ({ progress }) => (progress?.step ?? 0n) >= 12n);
  const mine = (await p.tasks.runTask({ parent: p.parent, task: training(p, "owner", 3, {}) }))
    .name;
  await taskWhen(p.tasks, mine, ({ queueReason }) => queueReason === QueueReason.BUDGET_EXHAUSTED);
  expect(await theirs.tasks.getTask({ name: loan })).toMatchObject({
    state: TaskState.RUNNING,
    preemptions: 0,
  });
  using operator = clientsOf(p);
  await operator.billing.grantCredit({
    name: `organizations/${p.platform.org}/balance`,
    amountNanos: 1_000_000_000_000n,
    requestId: randomUUID(),
  });
  expect((await endOf(p, mine)).state).toBe(TaskState.SUCCEEDED);
  expect(await endOf(theirs, loan, 90_000)).toMatchObject({
    state: TaskState.SUCCEEDED,
    preemptions: 1,
  });
  // The leader says so too, to operators only.
  const status = await until("the leader's figures of it", async () => {
    const figures = await operator.status.getSchedulerStatus({});
    return figures.preemptions === 1n && figures.liveAttempts === 0n ? figures : undefined;
  });
  expect(status).toMatchObject({ leases: 3n, waitingTasks: 0n, nodes: 1n, readyNodes: 1n });
  expect(Number(status.plans)).toBeGreaterThanOrEqual(3);
  await expect(theirs.status.getSchedulerStatus({})).rejects.toMatchObject({
    reason: "PERMISSION_DENIED",
  });
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 180_000);

test("who cannot pay keeps no GPU from others, however many tasks wait; with money for them they start", async () => {
  const env = { ...shortLeases, FASTGPU_BILLING__STARTING_CREDIT_USD: "0" };
  await using p = await testPlatform({ simulatedGpus: 1, env });
  const solvent = await twoTenants(p, 0);
  using theirs = clientsOf(p, solvent.key);
  const items = Array.from({ length: 100 }, () => ({ task: script("true", { gpus: 1 }) }));
  const { outcomes } = await p.tasks.batchRunTasks({ parent: p.parent, items });
  const poor = outcomes.map(({ outcome: { value } }) => (value as Task).name);
  const broke = ({ queueReason }: Task) => queueReason === QueueReason.BUDGET_EXHAUSTED;
  for (const at of [0, 50, 99]) await taskWhen(p.tasks, poor[at]!, broke);
  for (let nth = 0; nth < 3; nth++) {
    const wish = { parent: solvent.parent, task: script("true", { gpus: 1 }) };
    expect(await theirs.tasks.quoteTask(wish)).toMatchObject({ startsNow: true, queuePosition: 1 });
    const { name } = await theirs.tasks.runTask(wish);
    expect((await endOf(theirs, name)).state).toBe(TaskState.SUCCEEDED);
  }
  using operator = clientsOf(p);
  await operator.billing.grantCredit({
    name: `organizations/${p.platform.org}/balance`,
    amountNanos: 1_000_000_000_000n,
    requestId: randomUUID(),
  });
  for (const name of poor.slice(0, 3))
    expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  for (const name of poor.slice(3)) await p.tasks.cancelTask({ name });
  for (const name of poor) await endOf(p, name);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 180_000);

test("a fleet killed between preemption and placement: the preemptor starts, everybody ends once, the books are right", async () => {
  await using p = await startKillable("fastgpu-preempted-", { workers: 1, simulatedGpus: 1 });
  const borrower = await twoTenants(p, 1);
  using theirs = clientsOf(p, borrower.key);
  const task = training(p, "loan", 60, { preemptible: true });
  const loan = (await theirs.tasks.runTask({ parent: borrower.parent, task })).name;
  await begun(p, "loan");
  await taskWhen(theirs.tasks, loan, ({ progress }) => (progress?.step ?? 0n) >= 15n);
  const owner = training(p, "owner", 20, {});
  const mine = (await p.tasks.runTask({ parent: p.parent, task: owner })).name;
  // The victim is told to stop, or just gone; the preemptor has nothing yet.
  await taskWhen(
    theirs.tasks,
    loan,
    ({ state, preemptions }) => state === TaskState.STOPPING || preemptions === 1,
  );
  await p.killAndRestart();

  expect((await endOf(p, mine, 120_000)).state).toBe(TaskState.SUCCEEDED);
  expect((await endOf(theirs, loan, 120_000)).state).toBe(TaskState.SUCCEEDED);
  const log = await logOf(p);
  expect(log.filter((line) => line.startsWith("end "))).toEqual(["end owner 20", "end loan 60"]);
  const { attempts } = await theirs.tasks.listAttempts({ parent: loan });
  expect(attempts.length).toBe(2);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 240_000);

test("64 racing submits never hold more GPUs of a model than the queue's limit of it (I7)", async () => {
  await using p = await testPlatform({ simulatedGpus: 8 });
  using operator = clientsOf(p);
  const { gpus } = await p.nodes.listGpus({ parent: "nodes/-" });
  const model = gpus[0]?.model ?? "";
  const name = `${p.parent}/queue`;
  const models = [
    { model, limitGpus: 3 },
    { model: "other", limitGpus: 1 },
  ];
  const set = await operator.queues.updateQueue({
    queue: { name, models },
    updateMask: { paths: ["models"] },
  });
  const byName = models.toSorted((a, b) => (a.model < b.model ? -1 : 1));
  expect(set.models).toMatchObject(byName);
  await expect(
    operator.queues.updateQueue({
      queue: { name, models: [{ model, guaranteedGpus: 2, limitGpus: 1 }] },
      updateMask: { paths: ["models"] },
    }),
  ).rejects.toMatchObject({ violations: [{ field: "queue.models[0].limit_gpus" }] });
  const held: number[] = [];
  const watching = new AbortController();
  const watch = (async () => {
    while (!watching.signal.aborted) {
      const queue = await operator.queues.getQueue({ name });
      held.push(queue.models.find((share) => share.model === model)?.heldGpus ?? 0);
    }
  })();
  const task = script("sleep 0.2", { gpus: 1 });
  const names = await Promise.all(
    Array.from(
      { length: 64 },
      async () => (await p.tasks.runTask({ parent: p.parent, task })).name,
    ),
  );
  const ends = await Promise.all(names.map((each) => endOf(p, each, 120_000)));
  watching.abort();
  await watch;
  expect(ends.every(({ state }) => state === TaskState.SUCCEEDED)).toBe(true);
  expect(Math.max(...held)).toBe(3);
  expect(describeFailures(await settledAudit(p))).toBe("");
  const used = await stretches(p.billing, p.parent);
  const changes = used
    .flatMap(({ startMs, endMs }) => [[startMs, 1] as const, [endMs, -1] as const])
    .toSorted(([a, up], [b, down]) => a - b || up - down);
  let now = 0;
  const most = changes.map(([, change]) => (now += change));
  expect(Math.max(...most)).toBeLessThanOrEqual(3);
}, 240_000);
