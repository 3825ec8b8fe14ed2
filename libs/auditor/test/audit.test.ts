import { uuidToId } from "@fastgpu/domain/ids";
import { testDatabase } from "@fastgpu/testkit/database";
import { quiet } from "@fastgpu/testkit/log";
import pg from "pg";
import { expect, test } from "vitest";
import { audit, describeFailures, openAuditor } from "../src/audit.ts";
import type { Invariant } from "../src/check.ts";
import { makeWorld } from "./world.ts";
import type { World } from "./world.ts";

type Spoil = (world: World) => readonly string[];

/** Makes a sound world, spoils it as its superuser, and audits it. */
async function auditOf(spoil: Spoil) {
  await using db = await testDatabase({ services: ["scheduler", "billing"] });
  const client = new pg.Client({ connectionString: db.adminUrl });
  await client.connect();
  try {
    const world = await makeWorld(client);
    // Triggers of constraints off: we plant what the constraints forbid.
    await client.query("SET session_replication_role = replica");
    for (const sql of spoil(world)) await client.query(sql);
    await using auditor = openAuditor({ url: db.auditorUrl, log: quiet });
    return { report: await audit(auditor), world };
  } finally {
    await client.end();
  }
}

test("a sound world passes every check, and no check is skipped", async () => {
  const { report } = await auditOf(() => []);
  expect(describeFailures(report)).toBe("");
  expect(report.ok).toBe(true);
  expect(report.checks.filter((check) => check.skipped)).toEqual([]);
  expect(new Set(report.checks.map((check) => check.invariant))).toEqual(
    new Set(["I5", "I6", "I8", "I9", "I10", "I12", "I15"]),
  );
});

const usage = "billing.usage_records";
const unconstrained = (table: string): string =>
  `DO $$ DECLARE c text; BEGIN FOR c IN SELECT conname FROM pg_constraint WHERE conrelid = '${table}'::regclass
     AND contype = 'c' LOOP EXECUTE 'ALTER TABLE ${table} DROP CONSTRAINT ' || quote_ident(c); END LOOP; END $$`;

const plants: readonly (readonly [string, Invariant, Spoil])[] = [
  [
    "a GPU leased twice",
    "I5",
    (w) => [
      "DROP INDEX scheduler.allocations_unreleased",
      `UPDATE scheduler.allocations SET gpu_id = '${w.otherGpu}', released_ms = NULL WHERE gpu_id = '${w.gpu}'`,
    ],
  ],
  [
    "a lease that began before the one before it had ended",
    "I5",
    (w) => [`UPDATE scheduler.allocations SET gpu_id = '${w.otherGpu}' WHERE gpu_id = '${w.gpu}'`],
  ],
  [
    "a leased GPU without a lease",
    "I5",
    (w) => [
      `UPDATE scheduler.gpus SET state = 'LEASED', attempt_id = '${w.attempt}' WHERE id = '${w.gpu}'`,
    ],
  ],
  [
    "a lease of a GPU that says it is idle",
    "I5",
    (w) => [
      `UPDATE scheduler.gpus SET state = 'IDLE', attempt_id = NULL WHERE id = '${w.otherGpu}'`,
    ],
  ],
  [
    "an ended attempt that holds its GPU",
    "I5",
    (w) => [
      `UPDATE scheduler.attempts SET state = 'ENDED', prev_state = 'RUNNING' WHERE id = '${w.liveAttempt}'`,
    ],
  ],
  [
    "a GPU held by another member than its lease's",
    "I5",
    (w) => [`UPDATE scheduler.gpus SET member = 1 WHERE id = '${w.otherGpu}'`],
  ],
  [
    "a gang of which one member was leased",
    "I6",
    (w) => [`UPDATE scheduler.tasks SET replicas = 2 WHERE id = '${w.liveTask}'`],
  ],
  [
    "a member without the GPU of its gang",
    "I6",
    (w) => [`DELETE FROM scheduler.allocations WHERE gpu_id = '${w.otherGpu}'`],
  ],
  [
    "a segment lost in the middle",
    "I8",
    (w) => [`DELETE FROM ${usage} WHERE attempt_id = '${w.attempt}' AND seq = 2`],
  ],
  [
    "the last segment lost",
    "I8",
    (w) => [`DELETE FROM ${usage} WHERE attempt_id = '${w.attempt}' AND seq = 3`],
  ],
  [
    "all usage of an attempt lost",
    "I8",
    (w) => [`DELETE FROM ${usage} WHERE attempt_id = '${w.attempt}'`],
  ],
  [
    "a gap between two segments",
    "I8",
    (w) => [
      `UPDATE ${usage} SET start_ms = start_ms + 1 WHERE attempt_id = '${w.attempt}' AND seq = 2`,
    ],
  ],
  [
    "two segments that overlap",
    "I8",
    (w) => [
      `UPDATE ${usage} SET end_ms = end_ms + 1 WHERE attempt_id = '${w.attempt}' AND seq = 2`,
    ],
  ],
  [
    "usage before the allocation",
    "I8",
    (w) => [`UPDATE ${usage} SET start_ms = 900 WHERE attempt_id = '${w.attempt}' AND seq = 1`],
  ],
  [
    "usage of a GPU that nobody allocated",
    "I8",
    (w) => [`DELETE FROM scheduler.allocations WHERE attempt_id = '${w.attempt}'`],
  ],
  [
    "a GPU's time rated for two attempts",
    "I8",
    (w) => [`UPDATE ${usage} SET gpu_id = '${w.gpu}' WHERE attempt_id = '${w.liveAttempt}'`],
  ],
  [
    "an amount off by one nano, as a float would be",
    "I8",
    (w) => [
      `UPDATE ${usage} SET amount = amount + 1 WHERE attempt_id = '${w.attempt}' AND seq = 3`,
    ],
  ],
  [
    "a charge that its usage does not explain",
    "I8",
    (w) => [
      `UPDATE billing.transfers SET amount = amount - 1 WHERE subject = '${w.attempt}' AND kind = 'post'`,
    ],
  ],
  [
    "starting time that was billed",
    "I8",
    (w) => [
      unconstrained(usage),
      `UPDATE ${usage} SET free_reason = NULL WHERE attempt_id = '${w.attempt}' AND seq = 1`,
    ],
  ],
  [
    "money from nowhere",
    "I9",
    (w) => [
      `UPDATE billing.accounts SET credits_posted = credits_posted + 1 WHERE id = '${w.account}'`,
    ],
  ],
  ["a transfer removed", "I9", () => ["DELETE FROM billing.transfers WHERE code = 'grant'"]],
  [
    "a transfer changed",
    "I9",
    () => ["UPDATE billing.transfers SET amount = amount + 1 WHERE code = 'grant'"],
  ],
  [
    "a transfer to an account that is not there",
    "I9",
    () => ["UPDATE billing.transfers SET credit_id = gen_random_uuid() WHERE code = 'grant'"],
  ],
  [
    "a hold posted twice",
    "I9",
    (w) => [
      "DROP INDEX billing.transfers_resolved_once",
      `INSERT INTO billing.transfers SELECT gen_random_uuid(), kind, code, debit_id, credit_id, amount, currency, pending_id,
         subject, created_at FROM billing.transfers WHERE kind = 'post' AND subject = '${w.attempt}'`,
    ],
  ],
  [
    "more posted than was set aside",
    "I9",
    (w) => [
      `UPDATE billing.transfers SET amount = 1 WHERE kind = 'pending' AND subject = '${w.attempt}'`,
    ],
  ],
  [
    "an open hold with nothing set aside",
    "I9",
    (w) => [`DELETE FROM billing.transfers WHERE id = '${w.pendingTransfer}'`],
  ],
  [
    "money set aside for no hold",
    "I9",
    (w) => [`DELETE FROM billing.holds WHERE attempt_id = '${w.liveAttempt}'`],
  ],
  [
    "a hold that says it was charged more",
    "I9",
    (w) => [`UPDATE billing.holds SET charged = charged + 1 WHERE attempt_id = '${w.attempt}'`],
  ],
  [
    "more spent than there was",
    "I10",
    (w) => [
      unconstrained("billing.accounts"),
      `UPDATE billing.accounts SET credits_posted = 1 WHERE id = '${w.account}'`,
    ],
  ],
  [
    "an event lost in the middle of the log",
    "I12",
    () => ["DELETE FROM scheduler.event_log WHERE seq = 3"],
  ],
  ["the newest event lost", "I12", () => ["DELETE FROM scheduler.event_log WHERE seq = 6"]],
  [
    "old events removed without a trace",
    "I12",
    () => ["DELETE FROM scheduler.event_log WHERE seq <= 2"],
  ],
  [
    "an event twice in the log",
    "I12",
    () => [
      "UPDATE scheduler.event_log SET event_id = (SELECT event_id FROM scheduler.event_log WHERE seq = 1) WHERE seq = 5",
    ],
  ],
  [
    "changes of one thing out of order",
    "I12",
    () => ["UPDATE scheduler.event_log SET aggregate = 'task-x', aggregate_revision = 7 - seq"],
  ],
  ["a consumer ahead of its producer", "I12", () => ["UPDATE billing.inbox SET last_seq = 7"]],
  [
    "a consumer that confirmed what it has not applied",
    "I12",
    () => ["UPDATE billing.inbox SET last_seq = 4"],
  ],
  [
    "a task that left its end",
    "I15",
    (w) => [
      unconstrained("scheduler.tasks"),
      `UPDATE scheduler.tasks SET prev_state = 'SUCCEEDED', state = 'QUEUED' WHERE id = '${w.task}'`,
    ],
  ],
  [
    "an attempt that ran before it started",
    "I15",
    (w) => [
      unconstrained("scheduler.attempts"),
      `UPDATE scheduler.attempts SET prev_state = 'LEASED' WHERE id = '${w.liveAttempt}'`,
    ],
  ],
  [
    "an ended task with a live attempt",
    "I15",
    (w) => [
      `UPDATE scheduler.tasks SET state = 'FAILED', prev_state = 'RUNNING' WHERE id = '${w.liveTask}'`,
    ],
  ],
  [
    "a running task without an attempt",
    "I15",
    (w) => [`DELETE FROM scheduler.attempts WHERE id = '${w.liveAttempt}'`],
  ],
  [
    "a running task with two live attempts",
    "I15",
    (w) => [
      `UPDATE scheduler.attempts SET state = 'RUNNING', prev_state = 'STARTING', task_id = '${w.liveTask}' WHERE id = '${w.attempt}'`,
    ],
  ],
  [
    "a running task of another epoch than its attempt",
    "I15",
    (w) => [`UPDATE scheduler.tasks SET epoch = 2 WHERE id = '${w.liveTask}'`],
  ],
];

const caught = new Set<string>();

test.each(plants)("planted: %s", async (_name, invariant, spoil) => {
  const { report } = await auditOf(spoil);
  const broken = report.checks.filter((check) => !check.ok);
  expect(report.ok).toBe(false);
  expect(broken.map((check) => check.invariant)).toContain(invariant);
  for (const check of broken) expect(check.violations.length).toBeGreaterThan(0);
  for (const check of broken) caught.add(check.promise);
});

test("every check caught something planted", async () => {
  const { report } = await auditOf(() => []);
  // Events are planted in the scheduler's log and billing's inbox only; the checks of each schema are the same.
  const elsewhere = /of billing |of billing$|scheduler has applied/;
  const idle = report.checks
    .map((check) => check.promise)
    .filter((promise) => !caught.has(promise));
  expect(idle.filter((promise) => !elsewhere.test(promise))).toEqual([]);
});

test("usage whose events are on their way is neither lost nor doubled", async () => {
  const late: Spoil = (w) => [
    `DELETE FROM ${usage} WHERE attempt_id = '${w.liveAttempt}'`,
    `UPDATE billing.holds SET charged = 0, held = 2000000 WHERE attempt_id = '${w.liveAttempt}'`,
  ];
  const kept =
    (spoil: Spoil): Spoil =>
    (w) => [
      ...spoil(w),
      `UPDATE scheduler.event_log SET aggregate = '${uuidToId("att", w.attempt)}' WHERE seq < 6`,
      `UPDATE scheduler.event_log SET aggregate = '${uuidToId("att", w.liveAttempt)}' WHERE seq = 6`,
    ];
  const rated = (report: Awaited<ReturnType<typeof auditOf>>["report"]) =>
    report.checks.find((check) => check.promise.startsWith("all that was cut is rated"))?.ok;
  expect(rated((await auditOf(kept(late))).report), "all events are applied").toBe(false);
  const onTheWay: Spoil = (w) => [...kept(late)(w), "UPDATE billing.inbox SET last_seq = 5"];
  expect(rated((await auditOf(onTheWay)).report), "the last one is not").toBe(true);
});

test("a database without the services is no failure: their checks are skipped", async () => {
  await using db = await testDatabase({ services: ["demo"] });
  await using auditor = openAuditor({ url: db.auditorUrl, log: quiet });
  const report = await audit(auditor);
  expect(report.ok).toBe(true);
  expect(report.checks.some((check) => check.skipped)).toBe(true);
  expect(report.checks.some((check) => !check.skipped)).toBe(true);
});
