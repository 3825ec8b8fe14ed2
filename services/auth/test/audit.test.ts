import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  AuditService,
  OrganizationService,
  ProjectService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { idToUuid } from "@fastgpu/domain/ids";
import type { OrgId } from "@fastgpu/domain/ids";
import { answerListEvents } from "@fastgpu/events/event-log";
import { createMemoryBus } from "@fastgpu/events/memory-bus";
import { startBusRelay } from "@fastgpu/events/relay";
import { newEvent, topics } from "@fastgpu/events/topics";
import { openDatabase } from "@fastgpu/postgres/database";
import { appendEvents } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { service } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { generateServiceKeys } from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { testDatabase } from "@fastgpu/testkit/database";
import { anId } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";
import { scratchDirectory } from "@fastgpu/testkit/servers";
import { eventually } from "@fastgpu/testkit/signals";
import { checkpointKeys, verifyChain } from "../src/audit/chain.ts";
import type { ChainVerdict } from "../src/audit/chain.ts";
import { verifyAuditLog } from "../src/audit/verify-log.ts";
import { signGrownChains } from "../src/audit/checkpoints.ts";
import { listAuditCheckpoints, listAuditEvents } from "../src/store/audit-events.ts";
import { startAuth } from "./running-auth.ts";
import type { RunningAuth } from "./running-auth.ts";

let auth: RunningAuth;
let admin: pg.Client;
beforeAll(async () => {
  auth = await startAuth();
  admin = new pg.Client({ connectionString: auth.database.adminUrl });
  await admin.connect();
});
afterAll(async () => {
  await admin.end();
  await auth[Symbol.asyncDispose]();
});

async function verdict(of: RunningAuth): Promise<ChainVerdict> {
  const { org } = of.first;
  return verifyChain({
    org,
    events: await listAuditEvents(of.db.core, { org, afterSeq: 0, limit: 10_000 }),
    checkpoints: await listAuditCheckpoints(of.db.core, org),
    publicKey: checkpointKeys(of.master).publicKey,
  });
}

const sign = (of: RunningAuth, witnessFile = ""): Promise<number> =>
  signGrownChains({
    core: of.db.core,
    privateKey: checkpointKeys(of.master).privateKey,
    nowMs: of.clock.nowMs(),
    witnessFile,
  });

async function makeProjects(count: number): Promise<void> {
  const projects = auth.as(ProjectService, auth.first.firstKey?.secret);
  const parent = `organizations/${auth.first.org}`;
  for (let i = 0; i < count; i += 1) {
    await projects.createProject({ parent, project: { displayName: `p${i}` } });
  }
}

test("every change is one event at its place, and the API shows the chain", async () => {
  const parent = `organizations/${auth.first.org}`;
  await makeProjects(2);
  const list = await auth.as(AuditService, auth.first.firstKey?.secret).listAuditEvents({ parent });
  expect(list.auditEvents.map((event) => event.method.split("/")[1])).toEqual([
    "CreateOrganization",
    "CreateProject",
    "CreateApiKey",
    "CreateProject",
    "CreateProject",
  ]);
  expect(list.auditEvents.map((event) => event.seq)).toEqual([1n, 2n, 3n, 4n, 5n]);
  const [, , , last] = list.auditEvents;
  expect(last?.principal).toBe(auth.first.firstKey?.keyId);
  expect(last?.resource).toBe(`projects/${last?.project}`);
});

test("twenty changes at once make a chain without a gap", async () => {
  const projects = auth.as(ProjectService, auth.first.firstKey?.secret);
  const parent = `organizations/${auth.first.org}`;
  await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      projects.createProject({ parent, project: { displayName: `c${i}` } }),
    ),
  );
  expect((await verdict(auth)).kind).toBe("intact");
});

test("a change to any column of any row, in the database itself, is found", async () => {
  await sign(auth);
  await makeProjects(2);
  await sign(auth);
  expect((await verdict(auth)).kind).toBe("intact");
  const tampers: [string, string][] = [
    ["audit_events", "at_ms = at_ms + 1"],
    ["audit_events", "principal = principal || 'x'"],
    ["audit_events", "method = method || 'x'"],
    ["audit_events", "resource = resource || 'x'"],
    ["audit_events", "project = project || 'x'"],
    ["audit_events", "request_id = request_id || 'x'"],
    ["audit_events", "denied_calls = denied_calls + 1"],
    ["audit_events", "hash = reverse(hash)"],
    ["audit_events", "seq = seq + 1000"],
    ["audit_checkpoints", "seq = seq - 1"],
    ["audit_checkpoints", "hash = reverse(hash)"],
    ["audit_checkpoints", "at_ms = at_ms + 1"],
    ["audit_checkpoints", "number = number + 1000"],
    ["audit_checkpoints", "signature = repeat('00', 64)"],
  ];
  let tried = 0;
  for (const [table, change] of tampers) {
    const key = table === "audit_events" ? "seq" : "number";
    const { rows } = await admin.query<{ place: string }>(
      `SELECT ${key} AS place FROM auth.${table} WHERE org_id = $1`,
      [idToUuid(auth.first.org)],
    );
    for (const { place } of rows) {
      await expectFound(`UPDATE auth.${table} SET ${change} WHERE ${key} = ${place}`);
      tried += 1;
    }
  }
  expect(tried).toBeGreaterThan(200);
});

test("a deleted, a swapped and a cut-off row is found", async () => {
  const { rows } = await admin.query<{ seq: string }>("SELECT seq FROM auth.audit_events");
  for (const { seq } of rows) {
    await expectFound(`DELETE FROM auth.audit_events WHERE seq = ${seq}`);
    await expectFound(`DELETE FROM auth.audit_events WHERE seq >= ${seq}`);
    await expectFound(
      `UPDATE auth.audit_events SET seq = CASE seq WHEN ${seq} THEN -1 ELSE ${seq} END
       WHERE seq IN (${seq}, ${seq} % ${rows.length} + 1)`,
      [
        "ALTER TABLE auth.audit_events DROP CONSTRAINT audit_events_pkey",
        "ALTER TABLE auth.audit_events DROP CONSTRAINT audit_events_seq_check",
      ],
    );
  }
  await expectFound("DELETE FROM auth.audit_checkpoints WHERE number = 1");
});

/** Runs SQL as superuser, expects the verifier to object, and takes it back. */
async function expectFound(sql: string, before: readonly string[] = []): Promise<void> {
  // The verifier reads through its own pool, so the change must be committed: kept copies undo it.
  await admin.query("CREATE TABLE kept_events AS TABLE auth.audit_events");
  await admin.query("CREATE TABLE kept_checkpoints AS TABLE auth.audit_checkpoints");
  const undo = before.length > 0;
  try {
    for (const text of before) await admin.query(text);
    await admin.query(sql);
    expect((await verdict(auth)).kind, sql).toBe("broken");
  } finally {
    await admin.query("DELETE FROM auth.audit_events; DELETE FROM auth.audit_checkpoints");
    if (undo) {
      await admin.query(
        "ALTER TABLE auth.audit_events ADD CONSTRAINT audit_events_pkey PRIMARY KEY (org_id, seq)",
      );
      await admin.query(
        "ALTER TABLE auth.audit_events ADD CONSTRAINT audit_events_seq_check CHECK (seq > 0)",
      );
    }
    await admin.query("INSERT INTO auth.audit_events SELECT * FROM kept_events");
    await admin.query("INSERT INTO auth.audit_checkpoints SELECT * FROM kept_checkpoints");
    await admin.query("DROP TABLE kept_events, kept_checkpoints");
  }
}

test("cutting off the end with all its checkpoints is found by the witness file", async () => {
  const witnessFile = join(await scratchDirectory(), "audit", "checkpoints.jsonl");
  await using own = await startAuth();
  await sign(own, witnessFile);
  await appendFile(witnessFile, '{"org":"cut short by a cra');
  const projects = own.as(ProjectService, own.first.firstKey?.secret);
  const parent = `organizations/${own.first.org}`;
  await projects.createProject({ parent, project: { displayName: "cut me off" } });
  await sign(own, witnessFile);
  await remove(
    own,
    "DELETE FROM auth.audit_events WHERE seq = 4",
    "DELETE FROM auth.audit_checkpoints WHERE seq = 4",
  );
  const check = (file: string) =>
    verifyAuditLog({ pool: own.db.core, master: own.master, witnessFile: file });
  const { org } = own.first;
  expect(await check("")).toMatchObject([{ org, verdict: { kind: "intact", seq: 3 } }]);
  expect(await check(witnessFile)).toMatchObject([{ org, verdict: { kind: "broken", seq: 4 } }]);
  await remove(own, "DELETE FROM auth.audit_events", "DELETE FROM auth.audit_checkpoints");
  expect(await check("")).toEqual([]);
  expect(await check(witnessFile)).toMatchObject([{ org, verdict: { kind: "broken" } }]);
});

async function remove(own: RunningAuth, ...statements: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: own.database.adminUrl });
  await client.connect();
  for (const text of statements) await client.query(text);
  await client.end();
}

test("checkpoints cover what grew and nothing twice", async () => {
  await using own = await startAuth({ auditCheckpointEveryMs: 3_600_000 });
  await eventually("the first checkpoint", async () => {
    const list = await listAuditCheckpoints(own.db.core, own.first.org);
    return list.length === 1;
  });
  expect(await sign(own)).toBe(0);
});

test("refused calls are counted and recorded once, in the caller's organisation", async () => {
  await using own = await startAuth();
  const operator = own.first.firstKey?.secret;
  const asService = own.asService(OrganizationService, "scheduler");
  for (let i = 0; i < 3; i += 1) {
    await expect(asService.listOrganizations({})).rejects.toThrow(/does not hold/);
    const unknown = own.as(ProjectService, operator).getProject({ name: "projects/nope" });
    await expect(unknown).rejects.toThrow();
  }
  const { org } = own.first;
  const { db } = own;
  await own.stop();
  const events = await listAuditEvents(db.core, { org, afterSeq: 3, limit: 10 });
  expect(events).toMatchObject([
    {
      principal: own.first.firstKey?.keyId,
      method: "fastgpu.auth.v1.ProjectService/GetProject",
      deniedCalls: 3,
    },
  ]);
  const platform = "org-00000000000000000000000000" as OrgId;
  const others = await listAuditEvents(db.core, { org: platform, afterSeq: 0, limit: 10 });
  expect(others).toMatchObject([{ principal: "service:scheduler", deniedCalls: 3 }]);
  expect((await verdict(own)).kind).toBe("intact");
});

test("the audit facts of another service are chained once each, through its event log", async () => {
  await using database = await testDatabase({ services: ["auth", "other"] });
  const urls = database.urls["other"];
  if (urls === undefined) throw new Error("no urls");
  await using db = openDatabase({ service: "other", urls, log: quiet });
  const stop = new AbortController();
  await using bus = createMemoryBus();
  const clock = { nowMs: () => Date.UTC(2026, 0, 2) };
  await using relay = startBusRelay({
    producer: "other",
    core: db.core,
    clock,
    log: quiet,
    stop: stop.signal,
    bus,
  });
  const keys = generateServiceKeys();
  const path = join(await scratchDirectory(), "other.sock");
  const server = await startServer({
    listen: { path },
    services: [
      service(EventLogService, {
        listEvents: (request, { principal }) =>
          answerListEvents({ core: db.core, producer: "other", clock }, request, principal.id),
      }),
    ],
    auth: createAuthenticator({
      service: "other",
      clock: { nowMs: () => Date.UTC(2026, 0, 1) },
      loadKeys: () => Promise.resolve({ keys: [] }),
      serviceKeys: { auth: keys.publicKeyPem },
      resolveProject: () => undefined,
    }),
    clock,
    log: quiet,
    tracing: passiveTracing,
    stop: stop.signal,
  });
  const org = anId("org");
  const facts = Array.from({ length: 30 }, (_, i) =>
    newEvent(
      topics.auditRecorded,
      { principal: "key-1", method: "x.Y/Z", resource: `tasks/${i}`, requestId: `r${i}` },
      { aggregate: `task-${i}`, aggregateRevision: 1n, occurredMs: clock.nowMs() + i, org },
    ),
  );
  await transaction(db.core, (tx) => appendEvents(tx, facts));
  relay.wake();
  for (let run = 0; run < 2; run += 1) {
    await using own = await startAuth(
      { producers: { other: `unix:${path}` }, privateKeyPem: keys.privateKeyPem },
      database,
    );
    const events = await eventually("all facts chained", async () => {
      const list = await listAuditEvents(own.db.core, { org, afterSeq: 0, limit: 100 });
      return list.length >= 30 ? list : undefined;
    });
    expect(events.map((event) => event.resource)).toEqual(facts.map((_, i) => `tasks/${i}`));
    const { publicKey } = checkpointKeys(own.master);
    expect(verifyChain({ org, events, checkpoints: [], publicKey }).kind).toBe("intact");
  }
  stop.abort();
  await server.closed;
});
