import { randomUUID } from "node:crypto";
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  QuoteTaskResponseSchema,
  type ExplainTaskResponse,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import { ApiKeyService, ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import {
  ExitClass,
  QueueReason,
  SimulatedPolicy,
  TaskState,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { WhatIfResponseSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/what_if_pb";
import { formatNanos } from "@fastgpu/domain/money";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endOf, script, testPlatform, withSpec, type TestPlatform } from "./harness.ts";
import { type } from "./typed-command.ts";

let p: TestPlatform;
beforeAll(async () => {
  p = await testPlatform();
});
afterAll(async () => {
  await p[Symbol.asyncDispose]();
});

const run = (on: TestPlatform, task: Task) =>
  on.tasks.runTask({ parent: on.parent, requestId: randomUUID(), task }).then(({ name }) => name);

async function reaches(
  on: TestPlatform,
  name: string,
  here: (task: Task) => boolean,
): Promise<void> {
  for await (const { task } of on.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (task !== undefined && here(task)) return;
  }
  throw new Error(`${name} ended before`);
}
const runs = (on: TestPlatform, name: string) =>
  reaches(on, name, ({ state }) => state === TaskState.RUNNING);
const waitsFor = (on: TestPlatform, name: string, reason: QueueReason) =>
  reaches(on, name, ({ queueReason }) => queueReason === reason);

/** The remedy whose command matches, typed. */
async function apply(
  on: TestPlatform,
  told: ExplainTaskResponse,
  pattern: RegExp,
): Promise<string> {
  const remedy = told.remedies.find(({ command }) => pattern.test(command));
  expect(remedy?.command, JSON.stringify(told.remedies.map((each) => each.command))).toBeDefined();
  const startsBy = remedy?.startsByTime;
  expect(startsBy && timestampMs(startsBy) - Date.now()).toBeLessThan(1_000);
  return type(on, remedy?.command ?? "");
}

/** The task that `task rerun` printed. */
const rerunOf = (out: string): string => (JSON.parse(out) as { name: string }).name;

test("a task for a model that is full starts with fewer GPUs, and once the project's own work has ended, as the commands say", async () => {
  const holder = await run(p, script("sleep 600", { gpus: 1 }));
  await runs(p, holder);
  const name = await run(p, script("true", { gpus: 2 }));
  await waitsFor(p, name, QueueReason.NO_CAPACITY);
  const told = await p.tasks.explainTask({ name });
  expect(told.conditions).toMatchObject([{ reason: QueueReason.NO_CAPACITY }]);
  expect(told.queues).toMatchObject([
    { queue: `${p.parent}/queue`, weight: 1, heldGpus: 1, waitingTasks: 1 },
    { queue: `organizations/${p.platform.org}/queue`, heldGpus: 1 },
  ]);
  const smaller = rerunOf(await apply(p, told, /^fastgpu task rerun .*gpu\.count=1/));
  expect((await endOf(p, smaller)).state).toBe(TaskState.SUCCEEDED);
  expect((await endOf(p, name)).state).toBe(TaskState.CANCELLED);

  const again = await run(p, script("true", { gpus: 2 }));
  await waitsFor(p, again, QueueReason.NO_CAPACITY);
  await apply(p, await p.tasks.explainTask({ name: again }), /^fastgpu task cancel /);
  expect((await endOf(p, again)).state).toBe(TaskState.SUCCEEDED);
  expect((await endOf(p, holder)).state).toBe(TaskState.CANCELLED);
});

test("a task that needs two changes at once starts with both", async () => {
  const real = withSpec(script("true", { gpus: 3 }), { simulated: SimulatedPolicy.FORBID });
  const name = await run(p, real);
  await waitsFor(p, name, QueueReason.UNSATISFIABLE);
  const told = await p.tasks.explainTask({ name });
  const mended = rerunOf(await apply(p, told, /gpu\.count=2.*SIMULATED_POLICY_ALLOW/));
  expect((await endOf(p, mended)).state).toBe(TaskState.SUCCEEDED);
});

test("a gang that does not fit hears how many members do, and starts as the largest that would", async () => {
  const gang = withSpec(script("true", { gpus: 1 }), { replicas: 3 });
  const name = await run(p, gang);
  await reaches(p, name, ({ queueReason }) => queueReason > QueueReason.PENDING);
  const told = await p.tasks.explainTask({ name });
  expect(told.gang).toMatchObject({ members: 3, fitting: 2, lacking: 1, largestNow: 2 });
  const smaller = rerunOf(await apply(p, told, /^fastgpu task rerun .*spec\.replicas=2$/));
  expect((await endOf(p, smaller)).state).toBe(TaskState.SUCCEEDED);
});

test("a task behind an exhausted limit hears who holds it and until when, and starts with the limit that it names", async () => {
  const channel = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(p.key),
  });
  const queues = createClient(QueueService, channel);
  const queue = `${p.parent}/queue`;
  const limit = (limitGpus: number | undefined) =>
    queues.updateQueue({
      queue: { name: queue, ...(limitGpus === undefined ? {} : { limitGpus }) },
      updateMask: { paths: ["limit_gpus"] },
    });
  await limit(1);
  const holder = await run(p, script("sleep 600", { gpus: 1 }));
  await runs(p, holder);
  const name = await run(p, script("true", { gpus: 1 }));
  await waitsFor(p, name, QueueReason.QUOTA_EXCEEDED);
  const told = await p.tasks.explainTask({ name });
  expect(told.quotas).toMatchObject([
    {
      queue,
      ...{ limitGpus: 1, heldGpus: 1, wantedGpus: 1, neededLimitGpus: 2, otherGpus: 0 },
      holders: [{ task: holder, gpus: 1 }],
    },
  ]);
  expect(told.quotas[0]?.holders[0]?.endsByTime).toBeDefined();
  expect(told.conditions[0]).toMatchObject({ reason: QueueReason.QUOTA_EXCEEDED });
  expect(told.remedies.some(({ cancelTask }) => cancelTask === holder)).toBe(true);
  await apply(p, told, /^fastgpu queue set .* --limit 2$/);
  expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  await limit(undefined);
  await p.tasks.cancelTask({ name: holder });
  await endOf(p, holder);
  channel.close();
}, 120_000);

test("a task without money is told how much is missing, and starts once exactly that is added", async () => {
  await using poor = await testPlatform({ env: { FASTGPU_BILLING__STARTING_CREDIT_USD: "0" } });
  const name = await run(poor, script("true", { gpus: 1 }));
  await waitsFor(poor, name, QueueReason.BUDGET_EXHAUSTED);
  const told = await poor.tasks.explainTask({ name });
  const { needed, available } = told.budgetShortfall ?? {};
  expect(told.conditions).toMatchObject([{ reason: QueueReason.BUDGET_EXHAUSTED }]);
  const [remedy] = told.remedies;
  expect(remedy?.credit?.nanos).toBe((needed?.nanos ?? 0n) - (available?.nanos ?? 0n));
  await apply(poor, told, /^fastgpu billing credit /);
  expect((await endOf(poor, name)).state).toBe(TaskState.SUCCEEDED);
}, 120_000);

test("a task whose max_cost covers no lease is refused with the least that would, which a quote's command gives it; used up by attempts, it ends with class BUDGET", async () => {
  const bound = { currency: "USD", nanos: 1_000n };
  const small = withSpec(script("true", { gpus: 1 }), { maxCost: bound });
  const refused = await run(p, small).then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(refused).toMatchObject({
    reason: "INVALID_FIELD",
    violations: [{ field: "task.spec.max_cost.nanos" }],
  });
  const { outcomes } = await p.tasks.batchRunTasks({
    ...{ parent: p.parent, items: [{ task: small, requestId: randomUUID() }] },
  });
  expect(outcomes[0]?.outcome.value).toMatchObject({ field: "task.spec.max_cost.nanos" });

  const json = await type(p, "fastgpu task quote --gpus 1 --max-cost 0.000001 -o json -- true");
  const quote = fromJson(QuoteTaskResponseSchema, JSON.parse(json) as JsonValue);
  expect(quote.conditions[0]).toMatchObject({
    reason: QueueReason.BUDGET_EXHAUSTED,
    description: expect.stringMatching(/a submit is refused unless a cheaper GPU would do\.$/),
  });
  const [more] = quote.remedies;
  const [change] = more?.changes ?? [];
  expect(change?.fieldPath).toBe("spec.max_cost.nanos");
  const least = BigInt(change?.valueJson ?? 0);
  const text = (refused as Error).message;
  expect(text).toContain(`the cheapest needs ${formatNanos(least)} USD`);
  const mended = rerunOf(await type(p, more?.command ?? ""));
  expect((await endOf(p, mended)).state).toBe(TaskState.SUCCEEDED);

  // One nano-USD less is refused. With that much the second attempt has too little left.
  const withCost = (nanos: bigint) =>
    withSpec(script("sleep 0.1; exit 3", { gpus: 1 }), {
      maxCost: { currency: "USD", nanos },
      retry: { maxRetries: 5, retryOn: [ExitClass.USER_EXIT] },
    });
  await expect(run(p, withCost(least - 1n))).rejects.toMatchObject({ reason: "INVALID_FIELD" });
  const end = await endOf(p, await run(p, withCost(least)));
  expect(end).toMatchObject({ state: TaskState.FAILED, exitClass: ExitClass.BUDGET });
  expect(end.statusMessage).toMatch(
    /^of its max_cost of [\d.]+ USD there are [\d.]+ USD left, .* submit it again with at least /,
  );
});

test("the answer reads as facts, what stands in the way, and numbered remedies with their commands", async () => {
  const holder = await run(p, script("sleep 600", { gpus: 2 }));
  await runs(p, holder);
  const name = await run(p, script("true", { gpus: 1 }));
  await waitsFor(p, name, QueueReason.NO_CAPACITY);
  const text = await type(p, `fastgpu task explain ${name} -o table`);
  expect(text).toContain("No node has room for it now: 1 of 1 nodes have their GPUs busy.");
  expect(text).toMatch(
    /WHAT WOULD START IT\n {2}1\. end the project's own task-\w+, which holds 2/,
  );
  expect(text).toMatch(/\n {5}fastgpu task cancel projects\/proj-\w+\/tasks\/task-/);
  const quote = await type(p, "fastgpu task quote --gpus 1 -o table -- true");
  expect(quote).toMatch(/costs at most: +\d/);
  await p.tasks.cancelTask({ name });
  await p.tasks.cancelTask({ name: holder });
  await endOf(p, holder);
});

test("what another node, or one fewer, would do is told before it is done, and changes nothing", async () => {
  const holder = await run(p, script("sleep 600", { gpus: 2 }));
  await runs(p, holder);
  const name = await run(p, script("true", { gpus: 2 }));
  await waitsFor(p, name, QueueReason.NO_CAPACITY);
  const { nodes } = await p.nodes.listNodes({});
  const node = nodes[0]?.name.split("/")[1] ?? "";
  const json = await type(p, `fastgpu scheduler what-if --add-nodes "1x ${node}" -o json`);
  const played = fromJson(WhatIfResponseSchema, JSON.parse(json) as JsonValue);
  expect(played.tasks).toMatchObject([{ task: name, gpus: 2 }]);
  const startsBy = played.tasks[0]?.startThenTime;
  expect(startsBy && timestampMs(startsBy) - Date.now()).toBeLessThan(1_000);
  expect(played.changed).toMatchObject({ started: 1 });
  const drained = await type(
    p,
    `fastgpu scheduler what-if --remove-node ${node} --horizon 2d -o table`,
  );
  expect(drained).toMatch(/not within the horizon/);
  expect(await p.tasks.getTask({ name })).toMatchObject({ state: TaskState.QUEUED });
  await p.tasks.cancelTask({ name });
  await p.tasks.cancelTask({ name: holder });
  await endOf(p, holder);
});

test("a task behind its project's limit starts in another project of the caller's, as the command says; a bound key hears of none", async () => {
  const channel = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(p.key),
  });
  const queues = createClient(QueueService, channel);
  const projects = createClient(ProjectService, channel);
  const org = `organizations/${p.platform.org}`;
  const other = await projects.createProject({ parent: org, project: { displayName: "other" } });
  await queues.updateQueue({
    queue: { name: `${p.parent}/queue`, limitGpus: 0 },
    updateMask: { paths: ["limit_gpus"] },
  });
  const name = await run(p, script("true", { gpus: 1 }));
  await waitsFor(p, name, QueueReason.QUOTA_EXCEEDED);
  const apiKey = { displayName: "bound", role: "project_editor", project: p.parent };
  const keys = createClient(ApiKeyService, channel);
  const { secret } = await keys.createApiKey({ parent: org, apiKey });
  const bound = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(secret),
  });
  const toldBound = await createClient(TaskService, bound).explainTask({ name });
  expect(toldBound.remedies.length).toBeGreaterThan(0);
  expect(toldBound.remedies.filter(({ project }) => project !== "")).toEqual([]);
  bound.close();

  const told = await p.tasks.explainTask({ name });
  expect(told.remedies.find(({ project }) => project === other.name)).toBeDefined();
  const quote = await p.tasks.quoteTask({ parent: p.parent, task: script("true", { gpus: 1 }) });
  expect(quote.remedies.some(({ project }) => project === other.name)).toBe(true);
  const moved = rerunOf(await apply(p, told, /^fastgpu task rerun .* --to-project /));
  expect(moved.startsWith(`${other.name}/tasks/`)).toBe(true);
  expect((await endOf(p, moved)).state).toBe(TaskState.SUCCEEDED);
  expect((await endOf(p, name)).state).toBe(TaskState.CANCELLED);
  await queues.updateQueue({
    queue: { name: `${p.parent}/queue` },
    updateMask: { paths: ["limit_gpus"] },
  });
  channel.close();
}, 120_000);

test("each command of an explanation and of a quote does what it says, pasted where the context is of another project", async () => {
  const channel = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(p.key),
  });
  const queues = createClient(QueueService, channel);
  const org = `organizations/${p.platform.org}`;
  const { name: other } = await createClient(ProjectService, channel).createProject({
    ...{ parent: org, project: { displayName: "context" } },
  });
  const paste = (command: string) => type(p, `export FASTGPU_PROJECT=${other}; ${command}`);
  const command = (told: Pick<ExplainTaskResponse, "remedies">, pattern: RegExp): string => {
    const found = told.remedies.find((each) => pattern.test(each.command))?.command;
    expect(found, JSON.stringify(told.remedies.map((each) => each.command))).toBeDefined();
    return found ?? "";
  };
  const ends = async (name: string, parent: string) => {
    expect(name.startsWith(`${parent}/tasks/`), name).toBe(true);
    expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  };
  const holder = await run(p, script("sleep 600", { gpus: 1 }));
  await runs(p, holder);
  const name = await run(p, script("true", { gpus: 2 }));
  await waitsFor(p, name, QueueReason.NO_CAPACITY);
  const rerun = command(await p.tasks.explainTask({ name }), /task rerun .*gpu\.count=1/);
  await ends(rerunOf(await paste(rerun)), p.parent);

  const quote = async () =>
    fromJson(
      QuoteTaskResponseSchema,
      JSON.parse(
        await paste(
          `fastgpu task quote --project ${p.parent} -o json --gpus 2 -- sh -c 'echo "it is"'`,
        ),
      ) as JsonValue,
    );
  const smaller = command(await quote(), /^fastgpu task run .*--set spec\.resources\.gpu\.count=1/);
  await ends(rerunOf(await paste(smaller)), p.parent);
  await paste(command(await quote(), /^fastgpu task cancel /));
  expect((await endOf(p, holder)).state).toBe(TaskState.CANCELLED);

  const limit = { queue: { name: `${p.parent}/queue` }, updateMask: { paths: ["limit_gpus"] } };
  await queues.updateQueue({ ...limit, queue: { ...limit.queue, limitGpus: 0 } });
  const told = await quote();
  const there = new RegExp(`^fastgpu task run --detach --project ${other} `);
  await ends(rerunOf(await paste(command(told, there))), other);
  await paste(command(told, /^fastgpu queue set /));
  expect((await queues.getQueue({ name: limit.queue.name })).limitGpus).toBe(2);
  await queues.updateQueue(limit);
  channel.close();
}, 120_000);

test("a task that replaces one keeps its place where it asks for no more; a repeated request changes nothing, and nobody takes another's place", async () => {
  const holder = await run(p, script("sleep 600", { gpus: 2 }));
  await runs(p, holder);
  const small = { ...script("true", { gpus: 1 }) };
  const [first, second] = [await run(p, small), await run(p, small)];
  const submitted = async (name: string) => (await p.tasks.getTask({ name })).submitTime;
  const since = await submitted(first);
  const replace = (replaces: string, task: Task, requestId: string = randomUUID()) =>
    p.tasks.runTask({ parent: p.parent, task, replaces, requestId }).then(({ name }) => name);

  const requestId = randomUUID();
  const again = await replace(first, small, requestId);
  expect(await replace(first, small, requestId)).toBe(again);
  await expect(replace(second, small, requestId)).rejects.toMatchObject({
    reason: "REQUEST_ID_REUSED",
  });
  expect(await submitted(again)).toEqual(since);
  expect(await p.tasks.getTask({ name: first })).toMatchObject({
    state: TaskState.CANCELLED,
    statusMessage: expect.stringContaining("takes its place"),
  });
  expect(await p.tasks.explainTask({ name: again })).toMatchObject({ queuePosition: 1 });
  const mended = rerunOf(
    await type(p, `fastgpu task rerun ${again} --set spec.preemptible=true -o json`),
  );
  expect(await submitted(mended)).toEqual(since);
  const wider = await replace(mended, script("true", { gpus: 2 }));
  expect(await submitted(wider)).not.toEqual(since);
  expect(await p.tasks.explainTask({ name: wider })).toMatchObject({ queuePosition: 2 });

  // What has ended or runs is not replaced, and then nothing is submitted.
  const count = async () => (await p.tasks.listTasks({ parent: p.parent, pageSize: 1_000 })).tasks;
  const before = (await count()).length;
  for (const name of [first, holder]) {
    await expect(replace(name, small)).rejects.toMatchObject({ reason: "ILLEGAL_STATE" });
  }
  expect((await count()).length).toBe(before);

  const channel = createChannel({
    address: p.platform.address,
    token: () => Promise.resolve(p.key),
  });
  const org = `organizations/${p.platform.org}`;
  const { name: parent } = await createClient(ProjectService, channel).createProject({
    ...{ parent: org, project: { displayName: "elsewhere" } },
  });
  const foreign = (replaces: string) => p.tasks.runTask({ parent, task: small, replaces });
  await expect(foreign(second)).rejects.toMatchObject({ violations: [{ field: "replaces" }] });
  await expect(foreign(second.replace(p.parent, parent))).rejects.toMatchObject({
    reason: "NOT_FOUND",
  });
  expect(await p.tasks.getTask({ name: second })).toMatchObject({ state: TaskState.QUEUED });
  channel.close();
  for (const name of [second, wider, holder]) await p.tasks.cancelTask({ name });
  await endOf(p, holder);
}, 120_000);
