import { randomUUID } from "node:crypto";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { ExitClass, QueueReason, TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { describeFailures } from "@fastgpu/auditor/audit";
import { expect, test } from "vitest";
import { endOf, script, settledAudit, testPlatform, withSpec } from "./harness.ts";

test("a task without funds waits, and starts once there is credit", async () => {
  await using p = await testPlatform({ env: { FASTGPU_BILLING__STARTING_CREDIT_USD: "0" } });
  const { name } = await p.tasks.runTask({ parent: p.parent, task: script("true", { gpus: 1 }) });
  for await (const { task } of p.tasks.watchTask({ name }, { timeoutMs: 30_000 })) {
    if (task?.queueReason === QueueReason.BUDGET_EXHAUSTED) break;
  }
  const balance = `organizations/${p.platform.org}/balance`;
  await p.billing.grantCredit({
    name: balance,
    amountNanos: 1_000_000_000n,
    requestId: randomUUID(),
  });
  expect((await endOf(p, name)).state).toBe(TaskState.SUCCEEDED);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 120_000);

test("a task that cannot be paid for keeps no GPU from those behind it, and starts once there is credit", async () => {
  await using p = await testPlatform({
    simulatedGpus: 2,
    env: { FASTGPU_BILLING__STARTING_CREDIT_USD: "0" },
  });
  const grant = (amountNanos: bigint) =>
    p.billing.grantCredit({
      ...{ name: `organizations/${p.platform.org}/balance`, amountNanos },
      requestId: randomUUID(),
    });
  const dear = await p.tasks.runTask({ parent: p.parent, task: script("true", { gpus: 2 }) });
  for await (const { task } of p.tasks.watchTask({ name: dear.name }, { timeoutMs: 30_000 })) {
    if (task?.queueReason === QueueReason.BUDGET_EXHAUSTED) break;
  }
  const { budgetShortfall } = await p.tasks.explainTask({ name: dear.name });
  const needed = budgetShortfall?.needed?.nanos ?? 0n;
  expect(needed).toBeGreaterThan(0n);
  // Enough for one GPU, never for both.
  await grant((needed * 3n) / 4n);
  const cheap = await p.tasks.runTask({ parent: p.parent, task: script("true", { gpus: 1 }) });
  expect((await endOf(p, cheap.name)).state).toBe(TaskState.SUCCEEDED);
  const waits = await p.tasks.getTask({ name: dear.name });
  expect(waits).toMatchObject({
    state: TaskState.QUEUED,
    queueReason: QueueReason.BUDGET_EXHAUSTED,
  });
  await grant(needed);
  expect((await endOf(p, dear.name)).state).toBe(TaskState.SUCCEEDED);
  expect(describeFailures(await settledAudit(p))).toBe("");
}, 120_000);

test.each([
  ["task", 1],
  ["gang of two", 2],
])(
  "a %s whose money runs out is told in time, saves its work, and never costs more than there was (I10)",
  async (_what, replicas) => {
    // 0.36 USD an hour is 100,000 nano-USD a millisecond: 2,200,000,000 nano-USD are 22 s.
    const env = {
      FASTGPU_BILLING__STARTING_CREDIT_USD: "0",
      FASTGPU_SCHEDULER__LEASE_TTL_MS: "4000",
      FASTGPU_SCHEDULER__SKEW_MS: "300",
      FASTGPU_SCHEDULER__MARGIN_MS: "500",
      FASTGPU_WORKER__LEASE_MARGIN_MS: "500",
    };
    await using p = await testPlatform({ env });
    const name = `organizations/${p.platform.org}/balance`;
    const granted = 2_200_000n * BigInt(replicas);
    await p.billing.grantCredit({ name, amountNanos: granted, requestId: randomUUID() });
    const task = script('trap "echo saved; exit 0" TERM; echo up; while :; do sleep 0.1; done', {
      gpus: 1,
    });
    const patient = withSpec(task, { stopGrace: durationFromMs(2_000), replicas });
    const started = await p.tasks.runTask({ parent: p.parent, task: patient });
    const end = await endOf(p, started.name, 90_000);
    expect(end).toMatchObject({ state: TaskState.FAILED, exitClass: ExitClass.BUDGET });
    const log: string[] = [];
    for await (const { records } of p.tasks.readLogs({ name: started.name })) {
      log.push(...records.map((record) => Buffer.from(record.data).toString()));
    }
    expect(log.join("").match(/saved/g)).toHaveLength(replicas);
    expect(describeFailures(await settledAudit(p))).toBe("");
    const left = (await p.billing.getBalance({ name })).balance?.nanos ?? -1n;
    expect(left).toBeGreaterThanOrEqual(0n);
    expect(left).toBeLessThan(granted);
  },
  180_000,
);

test("a task never costs more than its max_cost: it is told in time, saves its work, and ends with class BUDGET", async () => {
  const env = {
    FASTGPU_SCHEDULER__LEASE_TTL_MS: "2000",
    FASTGPU_SCHEDULER__SKEW_MS: "300",
    FASTGPU_SCHEDULER__MARGIN_MS: "500",
    FASTGPU_WORKER__LEASE_MARGIN_MS: "500",
  };
  await using p = await testPlatform({ env });
  const bound = { currency: "USD", nanos: 2_200_000n };
  const task = withSpec(
    script('trap "echo saved; exit 0" TERM; echo up; while :; do sleep 0.1; done', { gpus: 1 }),
    { stopGrace: durationFromMs(2_000), maxCost: bound },
  );
  const quote = await p.tasks.quoteTask({ parent: p.parent, task });
  expect(quote.priceCeiling).toMatchObject(bound);
  const { name } = await p.tasks.runTask({ parent: p.parent, task });
  const end = await endOf(p, name, 90_000);
  expect(end).toMatchObject({ state: TaskState.FAILED, exitClass: ExitClass.BUDGET });
  const log: string[] = [];
  for await (const { records } of p.tasks.readLogs({ name })) {
    log.push(...records.map((record) => Buffer.from(record.data).toString()));
  }
  expect(log.join("")).toContain("saved");
  expect(describeFailures(await settledAudit(p))).toBe("");
  const { cost } = await p.tasks.getTask({ name });
  expect(cost?.nanos).toBeGreaterThan(0n);
  expect(cost?.nanos).toBeLessThanOrEqual(bound.nanos);
}, 180_000);
