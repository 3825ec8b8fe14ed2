import { createPrivateKey } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";
import type { Role } from "@fastgpu/domain/roles";
import { SignJWT } from "jose";
import { beforeAll, describe, expect, test } from "vitest";
import { createAuthenticator } from "./authenticator.ts";
import type { Authenticator } from "./authenticator.ts";
import {
  createServiceIdentity,
  generateServiceKeys,
  loadSigningKey,
  signAccessToken,
} from "./tokens.ts";
import type { ServiceKeys, SigningKey } from "./tokens.ts";

let time = 1_800_000_000_000;
const clock = { nowMs: () => time };
let key: SigningKey;
let next: SigningKey;
let scheduler: ServiceKeys;
let published: SigningKey[];
let loads: number;
let authenticator: Authenticator;

beforeAll(async () => {
  key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  next = await loadSigningKey(generateServiceKeys().privateKeyPem);
  scheduler = generateServiceKeys();
});

function fresh(): Authenticator {
  published = [key];
  loads = 0;
  time = 1_800_000_000_000;
  return createAuthenticator({
    service: "billing",
    clock,
    serviceKeys: { scheduler: scheduler.publicKeyPem },
    resolveProject: () => undefined,
    loadKeys: async () => {
      loads += 1;
      return { keys: published.map(({ jwk }) => jwk) };
    },
  });
}

const claims = { sub: "key-1", org: "org-1", role: "org_admin" } as const;
const sign = (options: { key?: SigningKey; ttlMs?: number; role?: Role; sub?: string } = {}) =>
  signAccessToken({
    key: options.key ?? key,
    claims: { ...claims, role: options.role ?? claims.role, sub: options.sub ?? claims.sub },
    nowMs: time,
    ...(options.ttlMs === undefined ? {} : { ttlMs: options.ttlMs }),
  });

async function reasonOf(authorization: string): Promise<string> {
  try {
    const principal = await authenticator.authenticate(authorization);
    return `let in as ${principal.id}`;
  } catch (error) {
    return Fault.from(error).reason;
  }
}

describe("an access token", () => {
  test("tells who calls, and is remembered", async () => {
    authenticator = fresh();
    const bearer = `Bearer ${await sign()}`;
    expect(await authenticator.authenticate(bearer)).toEqual({
      kind: "user",
      id: "key-1",
      org: "org-1",
      role: "org_admin",
      expiresAtMs: time + 900_000,
    });
    expect(authenticator.authenticate(bearer)).not.toBeInstanceOf(Promise);
    expect(loads).toBe(1);
  });

  test("is refused once it has expired, remembered or not", async () => {
    authenticator = fresh();
    const bearer = `Bearer ${await sign({ ttlMs: 60_000 })}`;
    await authenticator.authenticate(bearer);
    time += 66_000;
    expect(await reasonOf(bearer)).toBe("TOKEN_EXPIRED");
    expect(await reasonOf(bearer)).toBe("TOKEN_EXPIRED");
  });

  test("of a key that auth took into use since is verified after one reload", async () => {
    authenticator = fresh();
    await authenticator.authenticate(`Bearer ${await sign()}`);
    published = [key, next];
    time += 10_000;
    const bearer = `Bearer ${await sign({ key: next })}`;
    expect(await reasonOf(bearer)).toBe("let in as key-1");
    expect(loads).toBe(2);
  });

  test("of unknown keys does not make us ask auth again and again", async () => {
    authenticator = fresh();
    for (let i = 0; i < 5; i += 1) {
      const stranger = await loadSigningKey(generateServiceKeys().privateKeyPem);
      expect(await reasonOf(`Bearer ${await sign({ key: stranger })}`)).toBe("UNAUTHENTICATED");
    }
    expect(loads).toBe(1);
  });

  test.each([
    "",
    "Bearer",
    "Bearer x",
    "Bearer a.b.c",
    "Basic abc",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
  ])("that reads %j is refused", async (authorization) => {
    authenticator = fresh();
    expect(await reasonOf(authorization)).toBe("UNAUTHENTICATED");
  });

  test("with one byte changed is refused", async () => {
    authenticator = fresh();
    const token = await sign();
    const [head = "", body = "", signature = ""] = token.split(".");
    const claimed = JSON.parse(Buffer.from(body, "base64url").toString()) as object;
    const raised = Buffer.from(JSON.stringify({ ...claimed, role: "platform_operator" }));
    const forged = `${head}.${raised.toString("base64url")}.${signature}`;
    expect(await reasonOf(`Bearer ${forged}`)).toBe("UNAUTHENTICATED");
  });

  test.each([
    { title: "a service's role", role: "service", sub: "key-1" },
    { title: "a worker's role for a user", role: "worker", sub: "key-1" },
    { title: "a user's role for a worker", role: "org_admin", sub: "node-1" },
  ] as const)("with $title is refused", async ({ role, sub }) => {
    authenticator = fresh();
    expect(await reasonOf(`Bearer ${await sign({ role, sub })}`)).toBe("UNAUTHENTICATED");
  });

  test.each([
    { title: "for somebody else", audience: "other", lifeS: 600 },
    { title: "that never ends", audience: "fastgpu", lifeS: undefined },
    { title: "from long ago with an end far away", audience: "fastgpu", lifeS: 86_400 },
  ])("$title is refused", async ({ audience, lifeS }) => {
    authenticator = fresh();
    const old = lifeS === 86_400 ? 3_600 : 0;
    const jwt = new SignJWT({ role: "org_admin" })
      .setProtectedHeader({ alg: "EdDSA", kid: key.kid })
      .setIssuer("fastgpu-auth")
      .setAudience(audience)
      .setSubject("key-1")
      .setIssuedAt(time / 1000 - old);
    if (lifeS !== undefined) jwt.setExpirationTime(time / 1000 + lifeS);
    const reason = await reasonOf(`Bearer ${await jwt.sign(key.privateKey)}`);
    expect(["UNAUTHENTICATED", "TOKEN_EXPIRED"]).toContain(reason);
  });

  test("while the keys cannot be read is nobody's fault but ours", async () => {
    authenticator = createAuthenticator({
      service: "billing",
      clock,
      serviceKeys: {},
      resolveProject: () => undefined,
      loadKeys: () => Promise.reject(new Error("auth is away")),
    });
    expect(await reasonOf(`Bearer ${await sign()}`)).toBe("UNAVAILABLE");
  });
});

describe("a service token", () => {
  const identity = () =>
    createServiceIdentity({ name: "scheduler", privateKeyPem: scheduler.privateKeyPem, clock });

  test("tells the service and for whom it calls", async () => {
    authenticator = fresh();
    const token = await identity().token({ audience: "billing", onBehalfOf: "key-9" });
    expect(await authenticator.authenticate(`Bearer ${token}`)).toMatchObject({
      kind: "service",
      id: "service:scheduler",
      role: "service",
      onBehalfOf: "key-9",
    });
    expect(loads).toBe(0);
  });

  test("for another service is refused", async () => {
    authenticator = fresh();
    const token = await identity().token({ audience: "storage" });
    expect(await reasonOf(`Bearer ${token}`)).toBe("UNAUTHENTICATED");
  });

  test("is kept until it nears its end, and made anew then", async () => {
    authenticator = fresh();
    const own = identity();
    const first = await own.token();
    time += 200_000;
    expect(await own.token()).toBe(first);
    time += 60_000;
    const second = await own.token();
    expect(second).not.toBe(first);
    expect(await reasonOf(`Bearer ${second}`)).toBe("let in as service:scheduler");
  });

  test("of an unknown service, or signed by another one's key, is refused", async () => {
    authenticator = fresh();
    const stranger = createServiceIdentity({ ...generateServiceKeys(), name: "mallory", clock });
    expect(await reasonOf(`Bearer ${await stranger.token()}`)).toBe("UNAUTHENTICATED");
    const posing = createServiceIdentity({ ...generateServiceKeys(), name: "scheduler", clock });
    expect(await reasonOf(`Bearer ${await posing.token()}`)).toBe("UNAUTHENTICATED");
  });

  test("cannot be signed by auth's key, nor an access token by a service's", async () => {
    authenticator = fresh();
    const asService = await new SignJWT({ role: "org_admin", org: "org-1" })
      .setProtectedHeader({ alg: "EdDSA", kid: key.kid })
      .setIssuer("fastgpu-auth")
      .setAudience("fastgpu")
      .setSubject("key-1")
      .setIssuedAt(time / 1000)
      .setExpirationTime(time / 1000 + 60)
      .sign(createPrivateKey(scheduler.privateKeyPem));
    expect(await reasonOf(`Bearer ${asService}`)).toBe("UNAUTHENTICATED");
  });
});
