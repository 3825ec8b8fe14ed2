import { randomUUID } from "node:crypto";
import { toJsonString } from "@bufbuild/protobuf";
import { durationFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ExplainTaskResponseSchema,
  NodeCheck,
  type ExplainTaskResponse,
  type Remedy,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";
import {
  DependencyCondition,
  QueueReason,
  SimulatedPolicy,
  TaskState,
  type Task,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endOf, script, testPlatform, withSpec, type TestPlatform } from "./harness.ts";
import { clientsOf } from "./clients.ts";

let p: TestPlatform;
beforeAll(async () => {
  p = await testPlatform();
});
afterAll(async () => {
  await p[Symbol.asyncDispose]();
});

const run = (task: Task) =>
  p.tasks.runTask({ parent: p.parent, requestId: randomUUID(), task }).then(({ name }) => name);

/** Follows a task until `here` holds. */
async function reaches(name: string, here: (task: Task) => boolean): Promise<void> {
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (task !== undefined && here(task)) return;
  }
  throw new Error(`${name} ended before`);
}

const runs = (name: string) => reaches(name, (task) => task.state === TaskState.RUNNING);
const waitsFor = (name: string, reason: QueueReason) =>
  reaches(name, (task) => task.queueReason === reason);

const cancel = async (name: string): Promise<void> => {
  await p.tasks.cancelTask({ name });
  await endOf(p, name);
};

/** The remedy that changes a field, with the value it gives it. */
function remedyOf(
  told: Pick<ExplainTaskResponse, "remedies">,
  fieldPath: string,
): Remedy & { value: unknown } {
  const remedy = told.remedies.find(({ changes }) => changes[0]?.fieldPath === fieldPath);
  expect(remedy, JSON.stringify(told.remedies.map((each) => each.description))).toBeDefined();
  const found = remedy as Remedy;
  return { ...found, value: JSON.parse(found.changes[0]?.valueJson ?? "null") as unknown };
}

const hour = 3_600_000;

describe("a task that waits", () => {
  test("for GPUs that others hold hears which check fails, its place in line, and when they are free at the latest", async () => {
    const long = withSpec(script("sleep 600", { gpus: 2 }), { maxRuntime: durationFromMs(hour) });
    const holder = await run(long);
    await runs(holder);
    const first = await run(script("true", { gpus: 2 }));
    const second = await run(script("true", { gpus: 2 }));
    await waitsFor(second, QueueReason.NO_CAPACITY);
    const told = await p.tasks.explainTask({ name: second });
    expect(told).toMatchObject({
      name: second,
      state: TaskState.QUEUED,
      queueReason: QueueReason.NO_CAPACITY,
      nodesTotal: 1,
      nodesFitting: 0,
      queuePosition: 2,
      queueLength: 2,
      blockers: [{ check: NodeCheck.GPU_BUSY, nodes: 1, nodesOtherwiseFit: 1 }],
    });
    // The task before it may take its default 24 h, with 10 s of grace; the holder an hour.
    const { earliestTime, latestTime } = told.start ?? {};
    const range = timestampMs(latestTime!) - timestampMs(earliestTime!);
    expect(range).toBeGreaterThan(24 * hour);
    expect(range).toBeLessThan(25 * hour + 60_000);
    expect(told.remedies.at(-1)).toMatchObject({ changes: [], startsByTime: latestTime });
    await cancel(first);
    await cancel(holder);
    expect((await endOf(p, second)).state).toBe(TaskState.SUCCEEDED);
    const ended = await p.tasks.explainTask({ name: second });
    expect(ended).toMatchObject({ state: TaskState.SUCCEEDED, blockers: [], remedies: [] });
  });

  test("because one GPU is taken starts at once with the remedy of one GPU fewer", async () => {
    const holder = await run(script("sleep 600", { gpus: 1 }));
    await runs(holder);
    const name = await run(script("true", { gpus: 2 }));
    await waitsFor(name, QueueReason.NO_CAPACITY);
    const told = await p.tasks.explainTask({ name });
    const { value, description } = remedyOf(told, "spec.resources.gpu.count");
    expect([value, description]).toEqual([1, "ask for 1 GPU"]);
    await cancel(name);
    const mended = await run(script("true", { gpus: 1 }));
    expect((await endOf(p, mended)).state).toBe(TaskState.SUCCEEDED);
    await cancel(holder);
  });

  test("for more GPUs than any node has never starts, and starts with as many as it is told", async () => {
    const name = await run(script("true", { gpus: 3 }));
    await waitsFor(name, QueueReason.UNSATISFIABLE);
    const told = await p.tasks.explainTask({ name });
    expect(told.blockers).toMatchObject([
      { check: NodeCheck.GPU_COUNT, nodes: 1, nodesOtherwiseFit: 1 },
    ]);
    expect(told.start?.earliestTime).toBeUndefined();
    const { value } = remedyOf(told, "spec.resources.gpu.count");
    expect(value).toBe(2);
    await cancel(name);
    const mended = await run(script("true", { gpus: Number(value) }));
    expect((await endOf(p, mended)).state).toBe(TaskState.SUCCEEDED);
  });

  test("for a real GPU starts on a simulated one when it allows that", async () => {
    const real = withSpec(script("true", { gpus: 1 }), { simulated: SimulatedPolicy.FORBID });
    const name = await run(real);
    await waitsFor(name, QueueReason.UNSATISFIABLE);
    const told = await p.tasks.explainTask({ name });
    expect(told.blockers).toMatchObject([{ check: NodeCheck.GPU_SIMULATED, nodesOtherwiseFit: 1 }]);
    expect(remedyOf(told, "spec.simulated").value).toBe("SIMULATED_POLICY_ALLOW");
    await cancel(name);
    const mended = await run(withSpec(real, { simulated: SimulatedPolicy.ALLOW }));
    expect((await endOf(p, mended)).state).toBe(TaskState.SUCCEEDED);
  });

  test("for a model that nobody ever had is refused; a quote says what would do, and that starts", async () => {
    const wanted = script("true", { gpus: 1 });
    const gpu = { count: 1, models: ["NVIDIA B900"] };
    const task = withSpec(wanted, { resources: { cpuMillis: 100n, memoryMib: 64n, gpu } });
    await expect(run(task)).rejects.toMatchObject({
      violations: [{ field: "task.spec.resources.gpu.models" }],
      hint: expect.stringContaining("fastgpu gpu list"),
    });
    const told = await p.tasks.quoteTask({ parent: p.parent, task });
    expect(told.blockers).toMatchObject([{ check: NodeCheck.GPU_MODEL, nodesOtherwiseFit: 1 }]);
    const models = remedyOf(told, "spec.resources.gpu.models").value as string[];
    expect(models[0]).toBe("NVIDIA B900");
    const more = { resources: { cpuMillis: 100n, memoryMib: 64n, gpu: { count: 1, models } } };
    expect((await endOf(p, await run(withSpec(wanted, more)))).state).toBe(TaskState.SUCCEEDED);
  });

  test("for another task names it, and where that stands", async () => {
    const parent = await run(script("sleep 600"));
    await runs(parent);
    const dependsOn = [{ task: parent, condition: DependencyCondition.ENDED }];
    const name = await run(withSpec(script("true"), { dependsOn }));
    const told = await p.tasks.explainTask({ name });
    expect(told).toMatchObject({
      queueReason: QueueReason.DEPENDENCY,
      queuePosition: 0,
      unmetDependencies: [
        { task: parent, condition: DependencyCondition.ENDED, state: TaskState.RUNNING },
      ],
    });
    expect(told.start?.latestTime).toBeUndefined();
    await cancel(parent);
    expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  });

  test("is explained to its own tenant only, and never names the tasks of another", async () => {
    using mine = clientsOf(p);
    const organization = { displayName: "other" };
    const { name: parent } = await mine.organizations.createOrganization({ organization });
    const apiKey = { displayName: "admin", role: "org_admin" };
    const { secret } = await mine.keys.createApiKey({ parent, apiKey });
    using theirs = clientsOf(p, secret);
    const { tasks } = theirs;
    const project = await theirs.projects.createProject({ parent, project: { displayName: "p" } });

    const holder = await run(script("sleep 600", { gpus: 2 }));
    await runs(holder);
    const first = await run(script("true", { gpus: 2 }));
    await expect(tasks.explainTask({ name: first })).rejects.toBeInstanceOf(Fault);
    const { name } = await tasks.runTask({
      parent: project.name,
      task: script("true", { gpus: 2 }),
    });
    const told = await tasks.explainTask({ name });
    // The other tenant holds the whole fleet and more than its share: what waits of it goes behind.
    expect(told).toMatchObject({ nodesFitting: 0, queuePosition: 1 });
    const text = toJsonString(ExplainTaskResponseSchema, told);
    for (const foreign of [holder, first]) expect(text).not.toContain(foreign.split("/")[3]);
    await tasks.cancelTask({ name });
    await cancel(first);
    await cancel(holder);
  });
});

describe("a quote", () => {
  test("tells start and ceiling to the nano, and stores nothing", async () => {
    const { prices } = await p.billing.listPrices({});
    const hourly = prices.find((price) => price.sku === "gpu.simulated")?.perHour?.nanos ?? 0n;
    expect(hourly).toBeGreaterThan(0n);
    const before = await p.tasks.listTasks({ parent: p.parent, pageSize: 1000 });
    const limits = { maxRuntime: durationFromMs(1_000_001), stopGrace: durationFromMs(6) };
    const task = withSpec(script("true", { gpus: 2 }), limits);
    // What ran before may hold its GPUs a moment longer: the quote is of the fleet as it is.
    let quote = await p.tasks.quoteTask({ parent: p.parent, task });
    const deadline = performance.now() + 20_000;
    while (!quote.startsNow && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      quote = await p.tasks.quoteTask({ parent: p.parent, task });
    }
    const each = (hourly * 1_000_007n) / 3_600_000n;
    expect(quote).toMatchObject({
      feasible: true,
      startsNow: true,
      pricePerHour: { currency: "USD", nanos: 2n * hourly },
      priceCeiling: { currency: "USD", nanos: 2n * each },
      offers: [{ sku: "gpu.simulated", simulated: true, priceCeiling: { nanos: 2n * each } }],
      blockers: [],
      remedies: [],
    });
    const after = await p.tasks.listTasks({ parent: p.parent, pageSize: 1000 });
    expect(after.tasks.length).toBe(before.tasks.length);
  });

  test("of a task that would wait in line says where, as the task itself does once it is submitted", async () => {
    const holder = await run(script("sleep 600", { gpus: 1 }));
    await runs(holder);
    // Both GPUs go to the first in line; what could use the free one meanwhile outlasts that.
    const first = await run(script("true", { gpus: 2 }));
    await waitsFor(first, QueueReason.NO_CAPACITY);
    const task = script("true", { gpus: 1 });
    const quote = await p.tasks.quoteTask({ parent: p.parent, task });
    expect(quote).toMatchObject({ startsNow: false, queuePosition: 2, queueLength: 2 });
    const second = await run(task);
    await waitsFor(second, QueueReason.NO_CAPACITY);
    const told = await p.tasks.explainTask({ name: second });
    expect(told).toMatchObject({ queuePosition: 2, queueLength: 2, conditions: quote.conditions });
    for (const name of [second, first, holder]) await cancel(name);
  });

  test("for what no node has says what would do", async () => {
    const quote = await p.tasks.quoteTask({ parent: p.parent, task: script("true", { gpus: 5 }) });
    expect(quote).toMatchObject({
      feasible: false,
      startsNow: false,
      blockers: [{ check: NodeCheck.GPU_COUNT }],
      remedies: [{ changes: [{ fieldPath: "spec.resources.gpu.count", valueJson: "2" }] }],
    });
    expect([quote.pricePerHour, quote.priceCeiling, quote.offers]).toEqual([
      undefined,
      undefined,
      [],
    ]);
  });

  test("for CPU alone costs nothing", async () => {
    const quote = await p.tasks.quoteTask({ parent: p.parent, task: script("true") });
    expect(quote).toMatchObject({ startsNow: true, priceCeiling: { nanos: 0n }, offers: [] });
  });

  test("refuses what a submit would refuse", async () => {
    const task = withSpec(script("true"), { env: { LD_PRELOAD: "x" } });
    await expect(p.tasks.quoteTask({ parent: p.parent, task })).rejects.toMatchObject({
      reason: "INVALID_FIELD",
    });
  });
});

test("a task without money is told how much is missing, and starts with exactly that", async () => {
  await using poor = await testPlatform({ env: { FASTGPU_BILLING__STARTING_CREDIT_USD: "0" } });
  const task = script("true", { gpus: 1 });
  const { name } = await poor.tasks.runTask({ parent: poor.parent, task });
  for await (const { task: seen } of poor.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (seen?.queueReason === QueueReason.BUDGET_EXHAUSTED) break;
  }
  const told = await poor.tasks.explainTask({ name });
  const { needed, available } = told.budgetShortfall ?? {};
  expect(available).toMatchObject({ currency: "USD", nanos: 0n });
  expect(needed?.nanos).toBeGreaterThan(0n);
  expect(told.remedies).toMatchObject([{ description: expect.stringContaining("credit") }]);
  expect(await poor.tasks.quoteTask({ parent: poor.parent, task })).toMatchObject({
    feasible: true,
    startsNow: false,
    budgetShortfall: { needed: { nanos: needed?.nanos } },
  });
  await poor.billing.grantCredit({
    name: `organizations/${poor.platform.org}/balance`,
    amountNanos: needed?.nanos ?? 0n,
    requestId: randomUUID(),
  });
  expect((await endOf(poor, name)).state).toBe(TaskState.SUCCEEDED);
}, 120_000);
