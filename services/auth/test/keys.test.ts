import { randomBytes } from "node:crypto";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ApiKeyService,
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
    const answer = await auth.exchange(operatorKey);
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
      const fault = await faultOf(auth.exchange(key));
      expect(fault.reason).toBe(reason);
      expect(fault.message).toMatch(message);
    }
    const { adminKey, adminKeyName, organization } = await auth.newTenant("revoked");
    await auth.exchange(adminKey);
    await auth.as(ApiKeyService, operatorKey).revokeApiKey({ name: adminKeyName });
    expect((await faultOf(auth.exchange(adminKey))).reason).toBe("TOKEN_EXPIRED");
    const short = await auth.as(ApiKeyService, operatorKey).createApiKey({
      parent: organization.name,
      apiKey: {
        displayName: "short",
        role: "org_admin",
        expireTime: timestampFromMs(auth.clock.nowMs() + 60_000),
      },
    });
    const token = await auth.exchange(short.secret);
    expect(token.expireTime).toEqual(timestampFromMs(auth.clock.nowMs() + 60_000));
    auth.clock.advance(61_000);
    expect((await faultOf(auth.exchange(short.secret))).reason).toBe("TOKEN_EXPIRED");
  });

  test("a token verifies against the published keys before and after a rotation", async () => {
    const before = (await auth.exchange(operatorKey)).accessToken;
    const newKid = await rotateSigningKey(auth.db.core, {
      master: auth.master,
      nowMs: auth.clock.nowMs(),
    });
    auth.clock.advance(61_000);
    const published = await auth.as(TokenService).getJwks({});
    expect(published.jwksJson).toContain(newKid);
    expect((JSON.parse(published.jwksJson) as { keys: unknown[] }).keys.length).toBe(2);
    // Published, but not signing yet: every verifier has time to fetch it.
    const during = (await auth.exchange(operatorKey)).accessToken;
    auth.clock.advance(9 * 60_000 + 30_000);
    const after = (await auth.exchange(operatorKey)).accessToken;
    const kidOf = (token: string): unknown =>
      JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()).kid;
    expect(kidOf(after)).toBe(newKid);
    expect(kidOf(before)).not.toBe(newKid);
    expect(kidOf(during)).toBe(kidOf(before));
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

describe("roles", () => {
  test("a key cannot make one that can do more, live longer or act elsewhere", async () => {
    const tenant = await auth.newTenant("ceiling");
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
    const tenant = await auth.newTenant("not for operators");
    const keys = auth.as(ApiKeyService, operatorKey);
    const apiKey = { displayName: "second", role: "platform_operator" };
    const fault = await faultOf(keys.createApiKey({ parent: tenant.organization.name, apiKey }));
    expect(fault.reason).toBe("INVALID_FIELD");
    const second = await keys.createApiKey({ parent: `organizations/${auth.first.org}`, apiKey });
    expect((await auth.exchange(second.secret)).role).toBe("platform_operator");
  });
});

describe("revocation", () => {
  test("ends the tokens that the key has made, at once", async () => {
    const tenant = await auth.newTenant("tokens end");
    const { accessToken } = await auth.exchange(tenant.adminKey);
    const client = auth.withToken(ProjectService, accessToken);
    await client.listProjects({ parent: tenant.organization.name });
    await auth.as(ApiKeyService, operatorKey).revokeApiKey({ name: tenant.adminKeyName });
    const fault = await faultOf(client.listProjects({ parent: tenant.organization.name }));
    expect(fault.reason).toBe("TOKEN_EXPIRED");
    expect(fault.message).toMatch(/revoked/);
  });

  test("is told once and answers the same again", async () => {
    const tenant = await auth.newTenant("revoke twice");
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
