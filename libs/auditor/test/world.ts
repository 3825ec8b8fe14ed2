import { randomUUID } from "node:crypto";
import { anId } from "@fastgpu/testkit/factories";
import { idToUuid, uuidToId } from "@fastgpu/domain/ids";
import type pg from "pg";

/** Ids of the small, sound world that the tests spoil. */
export interface World {
  readonly task: string;
  readonly attempt: string;
  readonly gpu: string;
  readonly otherGpu: string;
  readonly liveTask: string;
  readonly liveAttempt: string;
  readonly account: string;
  readonly revenue: string;
  readonly pendingTransfer: string;
}

type Row = Readonly<Record<string, unknown>>;

/** Something harmless for a column that this test does not care about. */
function filler(type: string): unknown {
  if (type === "uuid") return randomUUID();
  if (type === "boolean") return false;
  if (type === "bytea") return Buffer.alloc(0);
  if (type === "jsonb" || type === "json") return "{}";
  if (type === "ARRAY") return [];
  if (type.startsWith("timestamp")) return new Date(0);
  return /int|numeric/.test(type) ? 0 : "";
}

/** Inserts a row, filling the NOT NULL columns without default that it leaves out. */
async function insert(client: pg.Client, table: string, row: Row): Promise<void> {
  const [schema, name] = table.split(".");
  const { rows } = await client.query<{ name: string; type: string }>(
    `SELECT column_name AS name, data_type AS type FROM information_schema.columns
     WHERE table_schema = $1 AND table_name = $2 AND is_nullable = 'NO' AND column_default IS NULL
       AND is_identity = 'NO'`,
    [schema, name],
  );
  const fillers = Object.fromEntries(rows.map((column) => [column.name, filler(column.type)]));
  const full: Row = { ...fillers, ...row };
  const columns = Object.keys(full);
  await client.query(
    `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map((_, i) => `$${i + 1}`).join(", ")})`,
    Object.values(full),
  );
}

const hourMs = 3_600_000;
const priceNanos = 360_000_000n;
const rated = (fromMs: number, toMs: number): bigint =>
  (priceNanos * BigInt(toMs)) / BigInt(hourMs) - (priceNanos * BigInt(fromMs)) / BigInt(hourMs);

/** One task done and paid, one running with its hold open; events in the log, billing up to date. */
export async function makeWorld(client: pg.Client): Promise<World> {
  const org = idToUuid(anId("org"));
  const project = idToUuid(anId("proj"));
  const tenant = { org_id: org, project_id: project };
  const [task, liveTask] = [idToUuid(anId("task")), idToUuid(anId("task"))];
  const [attempt, liveAttempt] = [idToUuid(anId("att")), idToUuid(anId("att"))];
  const node = idToUuid(anId("node"));
  const [gpu, otherGpu] = [idToUuid(anId("gpu")), idToUuid(anId("gpu"))];

  const plain = {
    ...tenant,
    gpu_count: 1,
    replicas: 1,
    runtime: "process",
    simulated_ok: true,
    labels: "{}",
  };
  await insert(client, "scheduler.tasks", {
    ...plain,
    ...{ id: task, state: "SUCCEEDED", prev_state: "RUNNING", epoch: 1, attempt_id: attempt },
  });
  await insert(client, "scheduler.tasks", {
    ...plain,
    ...{
      id: liveTask,
      state: "RUNNING",
      prev_state: "STARTING",
      epoch: 1,
      attempt_id: liveAttempt,
    },
  });
  await insert(client, "scheduler.nodes", { id: node, state: "READY" });
  const machine = { node_id: node, model: "sim", simulated: true };
  await insert(client, "scheduler.gpus", {
    ...machine,
    id: gpu,
    index: 0,
    uuid: "a",
    state: "IDLE",
  });
  await insert(client, "scheduler.gpus", {
    ...machine,
    ...{ id: otherGpu, index: 1, uuid: "b", state: "LEASED", attempt_id: liveAttempt },
  });
  const leased = { ...tenant, node_id: node, epoch: 1, leader_epoch: 1, number: 1 };
  await insert(client, "scheduler.attempts", {
    ...leased,
    ...{ id: attempt, task_id: task, state: "ENDED", prev_state: "RUNNING" },
  });
  await insert(client, "scheduler.attempts", {
    ...leased,
    ...{ id: liveAttempt, task_id: liveTask, state: "RUNNING", prev_state: "STARTING" },
  });
  const sold = { ...tenant, sku: "gpu.simulated", price_version: 1, simulated: true };
  await insert(client, "scheduler.allocations", {
    ...sold,
    ...{
      attempt_id: attempt,
      task_id: task,
      gpu_id: gpu,
      from_ms: 1_000,
      cut_ms: 9_000,
      seq: 3,
      released_ms: 9_000,
    },
  });
  await insert(client, "scheduler.allocations", {
    ...sold,
    ...{
      attempt_id: liveAttempt,
      task_id: liveTask,
      gpu_id: otherGpu,
      from_ms: 2_000,
      cut_ms: 5_000,
      seq: 1,
    },
  });

  const record = (row: Row) =>
    insert(client, "billing.usage_records", { ...sold, member: 0, ...row });
  const first = { attempt_id: attempt, task_id: task, gpu_id: gpu };
  await record({
    ...first,
    seq: 1,
    kind: "starting",
    start_ms: 1_000,
    end_ms: 2_000,
    free_reason: "starting",
  });
  await record({
    ...first,
    ...{
      seq: 2,
      kind: "billable",
      start_ms: 2_000,
      end_ms: 5_000,
      billing_start_ms: 0,
      billing_end_ms: 3_000,
    },
    amount: rated(0, 3_000),
  });
  await record({
    ...first,
    ...{
      seq: 3,
      kind: "billable",
      start_ms: 5_000,
      end_ms: 9_000,
      billing_start_ms: 3_000,
      billing_end_ms: 7_000,
    },
    amount: rated(3_000, 7_000),
  });
  await record({
    ...{ attempt_id: liveAttempt, task_id: liveTask, gpu_id: otherGpu, seq: 1, kind: "billable" },
    ...{
      start_ms: 2_000,
      end_ms: 5_000,
      billing_start_ms: 0,
      billing_end_ms: 3_000,
      amount: rated(0, 3_000),
    },
  });
  const money = await makeLedger(client, { tenant, attempt, task, liveAttempt, liveTask });
  await makeLog(client, attempt, liveAttempt);
  return { task, attempt, gpu, otherGpu, liveTask, liveAttempt, ...money };
}

async function makeLedger(
  client: pg.Client,
  of: { tenant: Row; attempt: string; task: string; liveAttempt: string; liveTask: string },
) {
  const account = randomUUID();
  const { rows } = await client.query<{ kind: string; id: string }>(
    "SELECT kind, id FROM billing.accounts",
  );
  const platform = (kind: string): string => rows.find((row) => row.kind === kind)?.id ?? "";
  const [revenue, grants] = [platform("platform_revenue"), platform("grants")];
  await insert(client, "billing.accounts", {
    ...{ id: account, kind: "org_credit", org_id: of.tenant["org_id"], currency: "USD" },
  });
  const move = async (row: Row): Promise<string> => {
    const id = randomUUID();
    await insert(client, "billing.transfers", {
      id,
      currency: "USD",
      debit_id: account,
      credit_id: revenue,
      ...row,
    });
    return id;
  };
  const [paid, livePaid] = [rated(0, 7_000), rated(0, 3_000)];
  const [held, left] = [5_000_000n, 2_000_000n];
  await move({
    kind: "posted",
    code: "grant",
    debit_id: grants,
    credit_id: account,
    amount: 90_000_000_000n,
  });
  const first = await move({ kind: "pending", code: "hold", amount: held, subject: of.attempt });
  await move({
    kind: "post",
    code: "charge",
    amount: paid,
    pending_id: first,
    subject: of.attempt,
  });
  const second = await move({
    kind: "pending",
    code: "hold",
    amount: held,
    subject: of.liveAttempt,
  });
  await move({
    kind: "post",
    code: "charge",
    amount: livePaid,
    pending_id: second,
    subject: of.liveAttempt,
  });
  const pendingTransfer = await move({
    kind: "pending",
    code: "hold",
    amount: left,
    subject: of.liveAttempt,
  });
  await client.query(
    `UPDATE billing.accounts SET credits_posted = 90000000000, debits_posted = $2, debits_pending = $3 WHERE id = $1`,
    [account, paid + livePaid, left],
  );
  await client.query("UPDATE billing.accounts SET debits_posted = 90000000000 WHERE id = $1", [
    grants,
  ]);
  await client.query(
    "UPDATE billing.accounts SET credits_posted = $2, credits_pending = $3 WHERE id = $1",
    [...[revenue, paid + livePaid, left]],
  );
  const hold = { ...of.tenant, account_id: account, items: "[]" };
  await insert(client, "billing.holds", {
    ...{
      ...hold,
      attempt_id: of.attempt,
      task_id: of.task,
      status: "closed",
      closed_at: new Date(0),
    },
    ...{ held, charged: paid },
  });
  await insert(client, "billing.holds", {
    ...{
      ...hold,
      attempt_id: of.liveAttempt,
      task_id: of.liveTask,
      status: "open",
      pending_id: pendingTransfer,
    },
    ...{ held: livePaid + left, charged: livePaid },
  });
  return { account, revenue, pendingTransfer };
}

async function makeLog(client: pg.Client, ...attempts: string[]): Promise<void> {
  for (let seq = 1; seq <= 6; seq += 1) {
    await insert(client, "scheduler.event_log", {
      ...{ seq, event_id: randomUUID(), type: "fastgpu.events.v1.UsageCut", aggregate_revision: 0 },
      aggregate: uuidToId("att", attempts[seq % attempts.length] ?? ""),
    });
  }
  await client.query("UPDATE scheduler.event_head SET head_seq = 6, published_seq = 6");
  await client.query("INSERT INTO billing.inbox VALUES ('scheduler', 1, 6)");
  await client.query("INSERT INTO scheduler.event_consumers VALUES ('billing', 5, 0)");
}
