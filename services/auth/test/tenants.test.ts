import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ApiKeyService,
  AuditService,
  OrganizationService,
  ProjectService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { faultOf, startAuth } from "./running-auth.ts";
import type { RunningAuth } from "./running-auth.ts";

let auth: RunningAuth;
let operatorKey: string;
beforeAll(async () => {
  auth = await startAuth();
  operatorKey = auth.first.firstKey?.secret ?? "";
});
afterAll(() => auth[Symbol.asyncDispose]());

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

describe("lists", () => {
  test("pages joined are the whole list, in order of creation; a token is good for its list only", async () => {
    const tenant = await auth.newTenant("pages");
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
    const [a, b] = [await auth.newTenant("a"), await auth.newTenant("b")];
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
    await auth.exchange(b.adminKey);
    const after = (await auth.as(AuditService, b.adminKey).listAuditEvents({ parent })).auditEvents;
    expect(after.length).toBe(before.length);
  });

  test("without a tenant the role under row-level security sees no row of any table", async () => {
    await auth.newTenant("rows");
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
