import { generateKeyPairSync, randomBytes } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { SignJWT } from "jose";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  OrganizationService,
  TokenService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { inviteWorker } from "../src/workers.ts";
import { faultOf, startAuth } from "./running-auth.ts";
import type { RunningAuth } from "./running-auth.ts";

let auth: RunningAuth;
beforeAll(async () => {
  auth = await startAuth();
});
afterAll(() => auth[Symbol.asyncDispose]());

function newWorkerKey(): { publicKey: Buffer; privateKey: KeyObject } {
  const pair = generateKeyPairSync("ed25519");
  const publicKey = Buffer.from(pair.publicKey.export({ format: "jwk" }).x ?? "", "base64url");
  return { publicKey, privateKey: pair.privateKey };
}

const invite = () =>
  auth.as(WorkerIdentityService, auth.first.firstKey?.secret).createWorkerJoinToken({});

const join = (joinToken: string, publicKey: Uint8Array) =>
  auth.as(WorkerIdentityService).joinWorker({ joinToken, publicKey, displayName: "box" });

function assertion(
  privateKey: KeyObject,
  claims: { iss: string; sub?: string; aud?: string; iat?: number; exp?: number },
): Promise<string> {
  const now = Math.floor(auth.clock.nowMs() / 1000);
  return new SignJWT()
    .setProtectedHeader({ alg: "EdDSA" })
    .setIssuer(claims.iss)
    .setSubject(claims.sub ?? claims.iss)
    .setAudience(claims.aud ?? "fastgpu-auth")
    .setIssuedAt(claims.iat ?? now)
    .setExpirationTime(claims.exp ?? now + 60)
    .sign(privateKey);
}

const exchange = (workerAssertion: string) =>
  auth
    .as(TokenService)
    .exchangeToken({ credential: { case: "workerAssertion", value: workerAssertion } });

test("a token joins one worker; a repeat with its key gets the same node, another key is refused", async () => {
  const { joinToken } = await invite();
  const [mine, other] = [newWorkerKey(), newWorkerKey()];
  const { node } = await join(joinToken, mine.publicKey);
  expect(node).toMatch(/^node-/);
  expect((await join(joinToken, mine.publicKey)).node).toBe(node);
  expect((await faultOf(join(joinToken, other.publicKey))).reason).toBe("JOIN_TOKEN_USED");
  auth.clock.advance(2 * 3_600_000);
  expect((await join(joinToken, mine.publicKey)).node).toBe(node);
});

test("of many racing joins with one token exactly one key wins", async () => {
  const { joinToken } = await invite();
  const keys = Array.from({ length: 6 }, newWorkerKey);
  const outcomes = await Promise.allSettled(keys.map((key) => join(joinToken, key.publicKey)));
  const joined = outcomes.filter((outcome) => outcome.status === "fulfilled");
  expect(joined.length).toBe(1);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected")
      expect(outcome.reason).toMatchObject({ reason: "JOIN_TOKEN_USED" });
  }
});

test("a token that has ended, is malformed, or was never made joins nobody", async () => {
  const { joinToken } = await invite();
  auth.clock.advance(3_600_001);
  const { publicKey } = newWorkerKey();
  expect((await faultOf(join(joinToken, publicKey))).reason).toBe("TOKEN_EXPIRED");
  for (const bad of ["x", joinToken.slice(0, -1), `${joinToken.slice(0, -1)}0`]) {
    expect((await faultOf(join(bad, publicKey))).reason).toBe("UNAUTHENTICATED");
  }
  const fresh = await invite();
  expect((await faultOf(join(fresh.joinToken, randomBytes(31)))).reason).toBe("INVALID_FIELD");
});

test("a worker that joins again with its key keeps its node id", async () => {
  const { publicKey } = newWorkerKey();
  const first = await join((await invite()).joinToken, publicKey);
  const second = await join((await invite()).joinToken, publicKey);
  expect(second.node).toBe(first.node);
});

test("the composition root invites in-process", async () => {
  const { joinToken } = await inviteWorker(auth.db.core, {
    master: auth.master,
    nowMs: auth.clock.nowMs(),
    org: auth.first.org,
    invitedBy: "service:platform",
  });
  expect((await join(joinToken, newWorkerKey().publicKey)).node).toMatch(/^node-/);
});

test("only an operator invites", async () => {
  const denied = auth.as(WorkerIdentityService).createWorkerJoinToken({});
  expect((await faultOf(denied)).reason).toBe("UNAUTHENTICATED");
});

test("an assertion by the registered key is exchanged for a worker's token, and nothing else is", async () => {
  const worker = newWorkerKey();
  const { node } = await join((await invite()).joinToken, worker.publicKey);
  const { node: otherNode } = await join((await invite()).joinToken, newWorkerKey().publicKey);
  const token = await exchange(await assertion(worker.privateKey, { iss: node }));
  expect(token).toMatchObject({ principal: node, role: "worker", organization: "", project: "" });
  const asWorker = auth.withToken(OrganizationService, token.accessToken);
  expect((await faultOf(asWorker.listOrganizations({}))).reason).toBe("PERMISSION_DENIED");

  const now = Math.floor(auth.clock.nowMs() / 1000);
  const cases: Record<string, Promise<string>> = {
    "another node's name": assertion(worker.privateKey, { iss: otherNode }),
    "a subject that is not the issuer": assertion(worker.privateKey, { iss: otherNode, sub: node }),
    "a key that is not registered": assertion(newWorkerKey().privateKey, { iss: node }),
    "another audience": assertion(worker.privateKey, { iss: node, aud: "fastgpu" }),
    "a long life": assertion(worker.privateKey, { iss: node, exp: now + 3_600 }),
    "an unknown node": assertion(worker.privateKey, { iss: "node-00000000000000000000000000" }),
    "no token": Promise.resolve("a.b.c"),
    "an algorithm of none": Promise.resolve(
      `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify({ iss: node, sub: node, aud: "fastgpu-auth", iat: now, exp: now + 60 })).toString("base64url")}.`,
    ),
  };
  for (const [what, made] of Object.entries(cases)) {
    expect((await faultOf(exchange(await made))).reason, what).toBe("UNAUTHENTICATED");
  }
  const old = await assertion(worker.privateKey, { iss: node, iat: now - 400, exp: now - 100 });
  expect((await faultOf(exchange(old))).reason).toBe("TOKEN_EXPIRED");
});
