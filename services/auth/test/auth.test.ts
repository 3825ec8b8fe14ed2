import { randomBytes, randomUUID } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ApiKeyService,
  AuditService,
  OrganizationService,
  ProjectService,
  TokenService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { generateServiceKeys, loadSigningKey, signAccessToken } from "@fastgpu/rpc/tokens";
import { eventually } from "@fastgpu/testkit/signals";
import { bootstrap, recoverOperatorKey } from "../src/bootstrap.ts";
import { formatApiKey, parseApiKey } from "../src/keys/api-key.ts";
import { rotateSigningKey } from "../src/tokens/signing-keys.ts";
import { faultOf, startAuth } from "./running-auth.ts";
import type { RunningAuth } from "./running-auth.ts";

let auth: RunningAuth;
let operatorKey: string;
beforeAll(async () => {
  auth = await startAuth();
  operatorKey = auth.first.firstKey?.secret ?? "";
});
afterAll(() => auth[Symbol.asyncDispose]());

const exchange = (key: string) =>
  auth.as(TokenService).exchangeToken({ credential: { case: "apiKey", value: key } });

async function newTenant(displayName: string) {
  const operator = auth.as(OrganizationService, operatorKey);
  const organization = await operator.createOrganization({ organization: { displayName } });
  const keys = auth.as(ApiKeyService, operatorKey);
  const { secret, apiKey } = await keys.createApiKey({
    parent: organization.name,
    apiKey: { displayName: "admin", role: "org_admin" },
  });
  const projects = auth.as(ProjectService, secret);
  const project = await projects.createProject({
    parent: organization.name,
    project: { displayName: "p" },
  });
  return { organization, adminKey: secret, adminKeyName: apiKey?.name ?? "", project };
}

describe("first start", () => {
  test("makes one organisation, project and key, whoever asks and however often", async () => {
    await using fresh = await startAuth();
    const again = await Promise.all(
      Array.from({ length: 4 }, () =>
        bootstrap({ core: fresh.db.core, master: fresh.master, nowMs: 5, env: "test" }),
      ),
    );
    for (const later of again) {
      expect(later).toEqual({
        org: fresh.first.org,
        project: fresh.first.project,
        firstKey: undefined,
      });
    }
    const list = await fresh
      .as(OrganizationService, fresh.first.firstKey?.secret)
      .listOrganizations({});
    expect(list.organizations.map((o) => o.displayName)).toEqual(["default"]);
  });

  test("the first key is exchanged for an operator's token bound to organisation and project", async () => {
    const answer = await exchange(operatorKey);
    expect(answer).toMatchObject({
      role: "platform_operator",
      organization: `organizations/${auth.first.org}`,
      project: `projects/${auth.first.project}`,
    });
  });

  test("who has lost every key but not the master key gets a new operator's key", async () => {
    await using own = await startAuth();
    const { org } = own.first;
    const options = {
      core: own.db.core,
      master: own.master,
      nowMs: own.clock.nowMs(),
      env: "test",
    };
    const { secret } = await recoverOperatorKey({ ...options, org });
    const { organizations } = await own.as(OrganizationService, secret).listOrganizations({});
    expect(organizations.length).toBe(1);
  });

  test("no secret is in the database", async () => {
    const parsed = parseApiKey(operatorKey);
    if (parsed.kind !== "key") throw new Error("malformed");
    const dump = await auth.db.core.query<{ text: string }>({
      name: "dump_secrets",
      text: "SELECT (SELECT string_agg(k::text, ' ') FROM api_keys k) || (SELECT string_agg(s::text, ' ') FROM signing_keys s) AS text",
    });
    const text = dump[0]?.text ?? "";
    expect(text).toContain("first key");
    expect(text).not.toContain(parsed.parts.secret.toString("hex"));
    expect(text).not.toContain(operatorKey.split("_")[3]);
    expect(text).not.toContain("302e020100300506032b6570");
  });
});

describe("exchange of keys", () => {
  test("refuses what is malformed, unknown, foreign, revoked or ended, each with its reason", async () => {
    const parsed = parseApiKey(operatorKey);
    if (parsed.kind !== "key") throw new Error("malformed");
    const { parts } = parsed;
    const cases: [string, string, RegExp][] = [
      ["nonsense", "UNAUTHENTICATED", /malformed/],
      [`${operatorKey.slice(0, -1)}?`, "UNAUTHENTICATED", /malformed/],
      [formatApiKey({ ...parts, secret: randomBytes(32) }), "UNAUTHENTICATED", /unknown/],
      [formatApiKey({ ...parts, env: "prod" }), "UNAUTHENTICATED", /another installation/],
    ];
    for (const [key, reason, message] of cases) {
      const fault = await faultOf(exchange(key));
      expect(fault.reason).toBe(reason);
      expect(fault.message).toMatch(message);
    }
    const { adminKey, adminKeyName, organization } = await newTenant("revoked");
    await exchange(adminKey);
    await auth.as(ApiKeyService, operatorKey).revokeApiKey({ name: adminKeyName });
    expect((await faultOf(exchange(adminKey))).reason).toBe("TOKEN_EXPIRED");
    const short = await auth.as(ApiKeyService, operatorKey).createApiKey({
      parent: organization.name,
      apiKey: {
        displayName: "short",
        role: "org_admin",
        expireTime: timestampFromMs(auth.clock.nowMs() + 60_000),
      },
    });
    const token = await exchange(short.secret);
    expect(token.expireTime).toEqual(timestampFromMs(auth.clock.nowMs() + 60_000));
    auth.clock.advance(61_000);
    expect((await faultOf(exchange(short.secret))).reason).toBe("TOKEN_EXPIRED");
  });

  test("a token verifies against the published keys before and after a rotation", async () => {
    const before = (await exchange(operatorKey)).accessToken;
    const oldKid = await rotateSigningKey(auth.db.core, {
      master: auth.master,
      nowMs: auth.clock.nowMs(),
    });
    auth.clock.advance(61_000);
    const published = await auth.as(TokenService).getJwks({});
    expect(published.jwksJson).toContain(oldKid);
    expect((JSON.parse(published.jwksJson) as { keys: unknown[] }).keys.length).toBe(2);
    auth.clock.advance(9 * 60_000 + 30_000);
    const after = (await exchange(operatorKey)).accessToken;
    const kidOf = (token: string): unknown =>
      JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()).kid;
    expect(kidOf(after)).toBe(oldKid);
    expect(kidOf(before)).not.toBe(oldKid);
    for (const token of [before, after]) {
      await auth.withToken(OrganizationService, token).listOrganizations({});
    }
    auth.clock.advance(5 * 60_000);
    const fault = await faultOf(auth.withToken(OrganizationService, before).listOrganizations({}));
    expect(fault.reason).toBe("TOKEN_EXPIRED");
  });

  test("a token signed with a key that is not published is refused", async () => {
    const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
    const claims = { sub: "key-x", org: auth.first.org, role: "platform_operator" } as const;
    const token = await signAccessToken({ key, claims, nowMs: auth.clock.nowMs() });
    const fault = await faultOf(auth.withToken(OrganizationService, token).listOrganizations({}));
    expect(fault.reason).toBe("UNAUTHENTICATED");
  });
});

describe("request ids", () => {
  test("the same id and body get the same answer, another body names the field, and nothing is made twice", async () => {
    const client = auth.as(ProjectService, operatorKey);
    const parent = `organizations/${auth.first.org}`;
    const requestId = randomUUID();
    const request = { parent, project: { displayName: "once" }, requestId };
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => client.createProject(request)),
    );
    expect(new Set(answers.map((answer) => answer.name)).size).toBe(1);
    const fault = await faultOf(
      client.createProject({ ...request, project: { displayName: "other" } }),
    );
    expect(fault.reason).toBe("REQUEST_ID_REUSED");
    expect(fault.violations[0]?.field).toBe("project.display_name");
    const list = await client.listProjects({ parent });
    expect(list.projects.filter((project) => project.displayName === "once").length).toBe(1);
    const organizations = auth.as(OrganizationService, operatorKey);
    const twice = { organization: { displayName: "twice" }, requestId };
    const [a, b] = [
      await organizations.createOrganization(twice),
      await organizations.createOrganization(twice),
    ];
    expect(a.name).toBe(b.name);
  });
});

describe("roles", () => {
  test("a key cannot make one that can do more, live longer or act elsewhere", async () => {
    const tenant = await newTenant("ceiling");
    const admin = auth.as(ApiKeyService, tenant.adminKey);
    const parent = tenant.organization.name;
    const make = (apiKey: Record<string, unknown>) =>
      faultOf(admin.createApiKey({ parent, apiKey: { displayName: "x", ...apiKey } }));
    expect((await make({ role: "platform_operator" })).reason).toBe("PERMISSION_DENIED");
    for (const role of ["worker", "service", "root", ""]) {
      expect((await make({ role })).reason).toBe("INVALID_FIELD");
    }
    expect((await make({ role: "org_admin", project: tenant.project.name })).reason).toBe(
      "INVALID_FIELD",
    );
    const foreign = `projects/${auth.first.project}`;
    expect((await make({ role: "project_viewer", project: foreign })).reason).toBe("INVALID_FIELD");
    const past = timestampFromMs(auth.clock.nowMs() - 1);
    expect((await make({ role: "project_viewer", expireTime: past })).reason).toBe("INVALID_FIELD");

    const inAnHour = timestampFromMs(auth.clock.nowMs() + 3_600_000);
    const short = await admin.createApiKey({
      parent,
      apiKey: { displayName: "short", role: "org_admin", expireTime: inAnHour },
    });
    const shortAdmin = auth.as(ApiKeyService, short.secret);
    const child = await shortAdmin.createApiKey({
      parent,
      apiKey: { displayName: "child", role: "org_admin" },
    });
    expect(child.apiKey?.expireTime).toEqual(inAnHour);
    const later = timestampFromMs(auth.clock.nowMs() + 3_600_001);
    const fault = await faultOf(
      shortAdmin.createApiKey({
        parent,
        apiKey: { displayName: "later", role: "org_admin", expireTime: later },
      }),
    );
    expect(fault.violations[0]?.field).toBe("api_key.expire_time");

    const viewer = await admin.createApiKey({
      parent,
      apiKey: { displayName: "v", role: "project_viewer", project: tenant.project.name },
    });
    const viewerKeys = auth.as(ApiKeyService, viewer.secret);
    expect((await faultOf(viewerKeys.listApiKeys({ parent }))).reason).toBe("PERMISSION_DENIED");
    const read = await auth
      .as(ProjectService, viewer.secret)
      .getProject({ name: tenant.project.name });
    expect(read.name).toBe(tenant.project.name);
  });

  test("an operator can make another operator's key in the own organisation only", async () => {
    const tenant = await newTenant("not for operators");
    const keys = auth.as(ApiKeyService, operatorKey);
    const apiKey = { displayName: "second", role: "platform_operator" };
    const fault = await faultOf(keys.createApiKey({ parent: tenant.organization.name, apiKey }));
    expect(fault.reason).toBe("INVALID_FIELD");
    const second = await keys.createApiKey({ parent: `organizations/${auth.first.org}`, apiKey });
    expect((await exchange(second.secret)).role).toBe("platform_operator");
  });
});

describe("names for people", () => {
  test("with control characters are refused by field and nothing is made", async () => {
    const parent = `organizations/${auth.first.org}`;
    const displayName = "a\u0000b";
    const refused: [() => Promise<unknown>, string][] = [
      [
        () =>
          auth
            .as(OrganizationService, operatorKey)
            .createOrganization({ organization: { displayName } }),
        "organization.display_name",
      ],
      [
        () =>
          auth.as(ProjectService, operatorKey).createProject({ parent, project: { displayName } }),
        "project.display_name",
      ],
      [
        () =>
          auth
            .as(ApiKeyService, operatorKey)
            .createApiKey({ parent, apiKey: { displayName, role: "project_viewer" } }),
        "api_key.display_name",
      ],
    ];
    for (const [call, field] of refused) {
      expect((await faultOf(call())).violations[0]?.field).toBe(field);
    }
  });
});

describe("revocation", () => {
  test("ends the tokens that the key has made, at once", async () => {
    const tenant = await newTenant("tokens end");
    const { accessToken } = await exchange(tenant.adminKey);
    const client = auth.withToken(ProjectService, accessToken);
    await client.listProjects({ parent: tenant.organization.name });
    await auth.as(ApiKeyService, operatorKey).revokeApiKey({ name: tenant.adminKeyName });
    const fault = await faultOf(client.listProjects({ parent: tenant.organization.name }));
    expect(fault.reason).toBe("TOKEN_EXPIRED");
    expect(fault.message).toMatch(/revoked/);
  });

  test("is told once and answers the same again", async () => {
    const tenant = await newTenant("revoke twice");
    const keys = auth.as(ApiKeyService, operatorKey);
    const first = await keys.revokeApiKey({ name: tenant.adminKeyName });
    auth.clock.advance(1_000);
    const second = await keys.revokeApiKey({ name: tenant.adminKeyName });
    expect(second.revokeTime).toEqual(first.revokeTime);
    const keyId = tenant.adminKeyName.split("/")[3];
    const events = auth.asService(EventLogService, "scheduler");
    const told = await eventually("ApiKeyRevoked in the log", async () => {
      const { batch } = await events.listEvents({ pageSize: 5_000 });
      const found = batch?.events.filter((event) => event.aggregate === keyId) ?? [];
      return found.length > 0 ? found : undefined;
    });
    expect(told.map((event) => event.type)).toEqual(["fastgpu.events.v1.ApiKeyRevoked"]);
  });
});

describe("lists", () => {
  test("pages joined are the whole list, in order of creation; a token is good for its list only", async () => {
    const tenant = await newTenant("pages");
    const parent = tenant.organization.name;
    const projects = auth.as(ProjectService, tenant.adminKey);
    for (let i = 0; i < 7; i += 1) {
      auth.clock.advance(1);
      await projects.createProject({ parent, project: { displayName: `n${i}` } });
    }
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await projects.listProjects({ parent, pageSize: 3, pageToken });
      expect(page.projects.length).toBeLessThanOrEqual(3);
      names.push(...page.projects.map((project) => project.displayName));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(names).toEqual(["p", "n0", "n1", "n2", "n3", "n4", "n5", "n6"]);
    const { nextPageToken } = await projects.listProjects({ parent, pageSize: 1 });
    const keys = auth.as(ApiKeyService, tenant.adminKey);
    const fault = await faultOf(keys.listApiKeys({ parent, pageToken: nextPageToken }));
    expect(fault.violations[0]?.field).toBe("page_token");
    const keyList = await keys.listApiKeys({ parent });
    expect(keyList.apiKeys.map((key) => key.displayName)).toEqual(["admin"]);
    expect(
      JSON.stringify(keyList.apiKeys, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v)),
    ).not.toContain("fgpu_");
  });
});

describe("between tenants", () => {
  test("nothing of another organisation is read, listed, made or changed, and it looks like nothing is there", async () => {
    const [a, b] = [await newTenant("a"), await newTenant("b")];
    const parent = b.organization.name;
    const before = (await auth.as(AuditService, b.adminKey).listAuditEvents({ parent }))
      .auditEvents;
    const calls = [
      () => auth.as(OrganizationService, a.adminKey).getOrganization({ name: parent }),
      () => auth.as(OrganizationService, a.adminKey).listOrganizations({}),
      () =>
        auth
          .as(OrganizationService, a.adminKey)
          .createOrganization({ organization: { displayName: "x" } }),
      () => auth.as(ProjectService, a.adminKey).getProject({ name: b.project.name }),
      () => auth.as(ProjectService, a.adminKey).listProjects({ parent }),
      () =>
        auth
          .as(ProjectService, a.adminKey)
          .createProject({ parent, project: { displayName: "x" } }),
      () => auth.as(ProjectService, a.adminKey).resolveProject({ name: b.project.name }),
      () => auth.as(ApiKeyService, a.adminKey).listApiKeys({ parent }),
      () =>
        auth.as(ApiKeyService, a.adminKey).createApiKey({
          parent,
          apiKey: { displayName: "x", role: "project_viewer" },
        }),
      () => auth.as(ApiKeyService, a.adminKey).revokeApiKey({ name: b.adminKeyName }),
      () => auth.as(AuditService, a.adminKey).listAuditEvents({ parent }),
    ];
    for (const call of calls) expect((await faultOf(call())).reason).toBe("PERMISSION_DENIED");
    // The key's id under one's own organisation: the row policy hides what the name does not say.
    const disguised = `${a.organization.name}/apiKeys/${b.adminKeyName.split("/")[3]}`;
    const fault = await faultOf(
      auth.as(ApiKeyService, a.adminKey).revokeApiKey({ name: disguised }),
    );
    expect(fault.reason).toBe("NOT_FOUND");
    await exchange(b.adminKey);
    const after = (await auth.as(AuditService, b.adminKey).listAuditEvents({ parent })).auditEvents;
    expect(after.length).toBe(before.length);
  });

  test("without a tenant the role under row-level security sees no row of any table", async () => {
    await newTenant("rows");
    const tables = await auth.db.core.query<{ name: string; secured: boolean }>({
      name: "tables_with_org",
      text: `SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS secured
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'auth'::regnamespace AND c.relkind = 'r' AND a.attname = 'org_id'
               AND c.relname NOT IN ('outbox', 'event_log')`,
    });
    expect(tables.length).toBeGreaterThanOrEqual(8);
    for (const { name, secured } of tables) {
      expect(secured, name).toBe(true);
      const rows = await auth.db.api.query<{ n: bigint }>({
        name: `count_${name}`,
        text: `SELECT count(*) AS n FROM ${name}`,
      });
      expect(rows[0]?.n, name).toBe(0n);
    }
    for (const table of ["signing_keys", "workers"]) {
      const refused = auth.db.api.query({ name: `peek_${table}`, text: `SELECT * FROM ${table}` });
      await expect(refused).rejects.toThrow(/permission denied/);
    }
  });

  test("the audit log cannot be changed by the service's own roles", async () => {
    for (const [role, pool] of Object.entries({ api: auth.db.api, core: auth.db.core })) {
      for (const text of ["UPDATE audit_events SET principal = 'x'", "DELETE FROM audit_events"]) {
        const refused = pool.query({ name: `tamper_${role}_${text.slice(0, 6)}`, text });
        await expect(refused).rejects.toThrow(/permission denied/);
      }
    }
  });
});

describe("other services", () => {
  test("resolve projects, and nobody else does", async () => {
    const project = `projects/${auth.first.project}`;
    const resolved = await auth
      .asService(ProjectService, "scheduler")
      .resolveProject({ name: project });
    expect(resolved.organization).toBe(`organizations/${auth.first.org}`);
    const unknown = auth.asService(ProjectService, "scheduler");
    expect((await faultOf(unknown.resolveProject({ name: "projects/nope" }))).reason).toBe(
      "NOT_FOUND",
    );
    const asUser = auth.as(ProjectService, operatorKey).resolveProject({ name: project });
    expect((await faultOf(asUser)).reason).toBe("PERMISSION_DENIED");
    const impostor = auth.asService(ProjectService, "monitor").resolveProject({ name: project });
    expect((await faultOf(impostor)).reason).toBe("UNAUTHENTICATED");
  });
});
