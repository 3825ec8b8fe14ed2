import { randomUUID } from "node:crypto";
import {
  BillingService,
  HoldService,
  HoldStatus,
  UsageKind,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import type { GpuId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import { newEvent, payloadOf, topics } from "@fastgpu/events/topics";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { openPool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import { anId, aTenant } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { eventually } from "@fastgpu/testkit/signals";
import { expect, test } from "vitest";
import { startBilling } from "./running-billing.ts";
import type { RunningBilling } from "./running-billing.ts";
import { aCut, audit, cutEvent } from "./support.ts";

const usd = 1_000_000_000n;
const balanceOf = (org: OrgId) => ({ name: `organizations/${org}/balance` });

function aKnownTenant(billing: RunningBilling): { org: OrgId; project: ProjectId } {
  const tenant = aTenant();
  billing.projects.set(tenant.project, tenant.org);
  return tenant;
}

function holdFor(tenant: { org: OrgId; project: ProjectId }, task = anId("task")) {
  return {
    ...tenant,
    task,
    attempt: anId("att"),
    items: [{ sku: "gpu.simulated", quantity: 1 }],
    coverMs: 3_600_000n,
    minCoverMs: 60_000n,
  };
}

test("the first organisation starts with 100 USD, the next with nothing, whoever tells of them first", async () => {
  await using billing = await startBilling();
  const [first, second] = [aKnownTenant(billing), aKnownTenant(billing)];
  const mine = billing.as(BillingService, "org_admin", first.org);
  const start = await mine.getBalance(balanceOf(first.org));
  expect(start).toMatchObject({
    name: `organizations/${first.org}/balance`,
    balance: { currency: "USD", nanos: 100n * usd },
    held: { nanos: 0n },
    available: { nanos: 100n * usd },
  });
  // The events of both come late.
  const facts = { aggregateRevision: 1n, occurredMs: billing.clock.nowMs() };
  const created = [first.org, second.org].map((org) =>
    newEvent(
      topics.organizationCreated,
      { org, displayName: "x" },
      { ...facts, org, aggregate: org },
    ),
  );
  await transaction(billing.logs.auth, (tx) => appendEvents(tx, created));
  billing.relay("auth");
  const operator = billing.as(BillingService, "platform_operator", first.org);
  expect((await operator.getBalance(balanceOf(second.org))).balance?.nanos).toBe(0n);
  await billing.restart();
  expect(await mine.getBalance(balanceOf(first.org))).toEqual(start);
});

test("credit is granted once for each request id, and told to the audit log", async () => {
  await using billing = await startBilling();
  const { org } = aKnownTenant(billing);
  const operator = billing.as(BillingService, "platform_operator", anId("org"));
  const request = { ...balanceOf(org), amountNanos: 5n * usd, requestId: randomUUID() };
  const answers = await Promise.all(Array.from({ length: 6 }, () => operator.grantCredit(request)));
  for (const answer of answers) expect(answer).toEqual(answers[0]);
  expect(answers[0]?.balance?.nanos).toBe(105n * usd);
  await expect(operator.grantCredit({ ...request, amountNanos: 6n * usd })).rejects.toMatchObject({
    reason: "REQUEST_ID_REUSED",
    violations: [{ field: "amount_nanos" }],
  });
  const next = await operator.grantCredit({ ...request, requestId: randomUUID() });
  expect(next.balance?.nanos).toBe(110n * usd);

  const log = billing.asScheduler(EventLogService);
  const events = await eventually("both facts are in the log", async () => {
    const { batch } = await log.listEvents({ afterSeq: 0n });
    return batch?.events.length === 2 ? batch.events : undefined;
  });
  const [fact] = events.map((event) => payloadOf(topics.auditRecorded, event));
  expect(fact).toMatchObject({
    method: "fastgpu.billing.v1.BillingService/GrantCredit",
    resource: `organizations/${org}/balance`,
  });
});

test("wrong and foreign requests get their reason and change nothing", async () => {
  await using billing = await startBilling();
  const { org } = aKnownTenant(billing);
  const stranger = aKnownTenant(billing);
  const admin = billing.as(BillingService, "org_admin", org);
  const operator = billing.as(BillingService, "platform_operator", org);
  const grant = { ...balanceOf(org), amountNanos: usd, requestId: randomUUID() };
  const reasons = (call: Promise<unknown>) =>
    call.then(
      () => "OK",
      (error: { reason: string }) => error.reason,
    );
  expect(await reasons(admin.getBalance(balanceOf(stranger.org)))).toBe("PERMISSION_DENIED");
  expect(await reasons(admin.grantCredit(grant))).toBe("PERMISSION_DENIED");
  expect(await reasons(operator.getBalance(balanceOf(anId("org"))))).toBe("NOT_FOUND");
  expect(await reasons(operator.grantCredit({ ...grant, amountNanos: 0n }))).toBe("INVALID_FIELD");
  expect(await reasons(operator.grantCredit({ ...grant, requestId: "1" }))).toBe("INVALID_FIELD");
  const foreign = { parent: `projects/${stranger.project}` };
  expect(await reasons(admin.listUsageRecords(foreign))).toBe("PERMISSION_DENIED");
  const holds = billing.as(HoldService, "platform_operator", org);
  expect(await reasons(holds.listOpenHolds({ beforeLeaderEpoch: 9n }))).toBe("PERMISSION_DENIED");
  const scheduler = billing.asScheduler(HoldService);
  const odd = { leaderEpoch: 1n, holds: [{ ...holdFor(stranger), attempt: "att-1" }] };
  await expect(scheduler.batchCreateHolds(odd)).rejects.toMatchObject({
    reason: "INVALID_FIELD",
    violations: [{ field: "holds[0].attempt" }],
  });
});

test("the price book has a price for a simulated GPU that says so", async () => {
  await using billing = await startBilling();
  const { prices } = await billing.as(BillingService, "project_viewer", anId("org")).listPrices({});
  expect(prices.map((price) => price.sku)).toEqual([
    "gpu.a100",
    "gpu.generic",
    "gpu.h100",
    "gpu.h200",
    "gpu.simulated",
  ]);
  expect(prices.at(-1)).toMatchObject({ version: 1, perHour: { nanos: 360_000_000n } });
  expect(prices.at(-1)?.description).toMatch(/simulated/i);
});

test("a hold of an organisation that billing has not heard of asks auth, and waits for nobody where auth is away", async () => {
  await using billing = await startBilling();
  const scheduler = billing.asScheduler(HoldService);
  const tenant = aKnownTenant(billing);
  const nobody = aTenant();
  const { outcomes } = await scheduler.batchCreateHolds({
    leaderEpoch: 3n,
    holds: [holdFor(tenant), holdFor(nobody)],
  });
  expect(outcomes).toMatchObject([
    {
      status: HoldStatus.OPEN,
      fundedMs: 3_600_000n,
      prices: [{ sku: "gpu.simulated", version: 1 }],
    },
    { status: HoldStatus.BUDGET_EXHAUSTED, fundedMs: 0n },
  ]);
  const attempt = outcomes[0]?.attempt ?? "";
  const extended = await scheduler.batchExtendHolds({
    leaderEpoch: 3n,
    holds: [{ attempt, n: 1, coverMs: 7_200_000n }],
  });
  expect(extended.outcomes).toMatchObject([{ status: HoldStatus.OPEN, fundedMs: 7_200_000n }]);
  expect(await scheduler.listOpenHolds({ beforeLeaderEpoch: 4n })).toMatchObject({
    attempts: [attempt],
  });
  await expect(
    scheduler.batchCreateHolds({ leaderEpoch: 3n, holds: [holdFor(tenant)] }),
  ).rejects.toMatchObject({ reason: "FENCED" });
  await scheduler.batchVoidHolds({ leaderEpoch: 4n, attempts: [attempt] });

  const operator = billing.as(BillingService, "platform_operator", tenant.org);
  await operator.listPrices({});
  await billing.stopAuth();
  const unheardOf = aTenant();
  const mixed = await scheduler.batchCreateHolds({
    leaderEpoch: 4n,
    holds: [holdFor(unheardOf), holdFor(tenant)],
  });
  expect(mixed.outcomes.map((outcome) => outcome.status)).toEqual([
    HoldStatus.BUDGET_EXHAUSTED,
    HoldStatus.OPEN,
  ]);
  const admin = billing.as(BillingService, "org_admin", unheardOf.org);
  expect((await admin.getBalance(balanceOf(unheardOf.org))).balance?.nanos).toBe(0n);
  const asked = operator.getBalance(balanceOf(anId("org")));
  await expect(asked).rejects.toMatchObject({ reason: "UNAVAILABLE" });
});

test("usage is listed newest first in pages bound to their query, and costs add up", async () => {
  await using billing = await startBilling();
  const tenant = aKnownTenant(billing);
  const other = aKnownTenant(billing);
  const scheduler = billing.asScheduler(HoldService);
  const tasks = [anId("task", 1), anId("task", 2)];
  const holds = Array.from({ length: 5 }, (_, i) => ({
    ...holdFor(tenant, tasks[i % 2]),
    attempt: anId("att", 1_000 + i),
  }));
  const foreign = holdFor(other);
  await scheduler.batchCreateHolds({ leaderEpoch: 1n, holds: [...holds, foreign] });
  const gpus = [anId("gpu"), anId("gpu")] as GpuId[];
  const events = [...holds, foreign].flatMap(({ org, project, task, attempt }) =>
    [1, 2, 3].map((seq) => {
      const span = { seq, fromMs: (seq - 1) * 60_000, toMs: seq * 60_000 };
      const owner = { org, project, task, attempt };
      const segments = gpus.flatMap((gpu) => aCut(owner, attempt, { gpu, ...span }).segments);
      return cutEvent({ owner, segments, final: seq === 3 });
    }),
  );
  await transaction(billing.logs.scheduler, (tx) => appendEvents(tx, events));
  billing.relay("scheduler");

  const viewer = billing.as(BillingService, "project_viewer", tenant.org, tenant.project);
  const parent = `projects/${tenant.project}`;
  const names = tasks.map((task) => `${parent}/tasks/${task}`);
  const costs = await eventually("all usage is charged", async () => {
    const answer = await viewer.batchGetTaskCosts({ parent, tasks: [...names, names[0] ?? ""] });
    return answer.costs[1]?.cost?.nanos === 72_000_000n ? answer.costs : undefined;
  });
  // 3 and 2 attempts, each 2 GPUs for 3 minutes at 0.36 USD an hour.
  expect(costs.map((cost) => cost.cost?.nanos)).toEqual([108_000_000n, 72_000_000n, 108_000_000n]);
  expect(costs.map((cost) => cost.final)).toEqual([false, false, false]);

  const all: string[] = [];
  let pageToken = "";
  do {
    const page = await viewer.listUsageRecords({ parent, pageSize: 7, pageToken });
    expect(page.usageRecords.length).toBeLessThanOrEqual(7);
    all.push(...page.usageRecords.map((record) => `${record.attempt} ${record.seq} ${record.gpu}`));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(all).toHaveLength(30);
  expect(new Set(all).size).toBe(30);
  const attempts = all.map((text) => text.split(" ")[0] ?? "");
  expect(attempts).toEqual(attempts.toSorted().toReversed());

  const ofTask = await viewer.listUsageRecords({ parent, task: names[1] ?? "", pageSize: 5 });
  expect(ofTask.usageRecords).toHaveLength(5);
  expect(ofTask.usageRecords[0]).toMatchObject({
    task: names[1],
    seq: 3,
    kind: UsageKind.BILLABLE,
    sku: "gpu.simulated",
    amount: { currency: "USD", nanos: 6_000_000n },
    freeReason: "",
    simulated: true,
  });
  const stolen = viewer.listUsageRecords({ parent, pageSize: 5, pageToken: ofTask.nextPageToken });
  await expect(stolen).rejects.toMatchObject({ reason: "INVALID_FIELD" });
  const bad = viewer.listUsageRecords({
    parent,
    task: `projects/${other.project}/tasks/${foreign.task}`,
  });
  await expect(bad).rejects.toMatchObject({ violations: [{ field: "task" }] });

  const url = billing.database.urls["billing"]?.core ?? "";
  await using core = openPool({ url, name: "audit", log: quiet });
  // The second organisation has no money: its hold was refused, so what it used all the same is our loss.
  expect(await audit(core)).toMatchObject({ openHolds: 0, lossNanos: 36_000_000n });
});
