import { createPrivateKey } from "node:crypto";
import { memberName } from "@fastgpu/domain/member-name";
import { anId } from "@fastgpu/testkit/factories";
import { SignJWT } from "jose";
import { beforeEach, describe, expect, test } from "vitest";
import { createAuthenticator } from "./authenticator.ts";
import { createGrantSigner, createGrantVerifier, type StorageGrant } from "./storage-grant.ts";
import { createServiceIdentity, generateServiceKeys } from "./tokens.ts";

const keys = generateServiceKeys();
const signer = createGrantSigner(keys.privateKeyPem);
let time = 1_800_000_000_000;
beforeEach(() => {
  time = 1_800_000_000_000;
});
const clock = { nowMs: () => time };
const verifierOf = (schedulerKeyPem: string) => createGrantVerifier({ schedulerKeyPem, clock });
const verifier = verifierOf(keys.publicKeyPem);

const grant: StorageGrant = {
  node: anId("node"),
  org: anId("org"),
  project: anId("proj"),
  task: anId("task"),
  attempt: memberName({ attempt: anId("att"), member: 3 }),
  epoch: 4,
  inputs: [anId("art"), anId("art")],
};
const sign = (of: Partial<StorageGrant> = {}, ttlMs = 60_000): Promise<string> =>
  signer.sign({ ...grant, ...of }, { nowMs: time, expiresAtMs: time + ttlMs });

/** Why a token is refused; undefined where it is not. */
async function refusal(token: string, by = verifier, node: string = grant.node) {
  return by.verify(token, node).then(
    () => undefined,
    (error: { reason: string; hint: string; metadata: Record<string, string> }) => {
      expect(error.reason).toBe("PERMISSION_DENIED");
      expect(error.hint).not.toBe("");
      return error.metadata["grant"];
    },
  );
}

describe("a storage grant", () => {
  test("says what was signed, for its worker, until it ends", async () => {
    const token = await sign();
    expect(await verifier.verify(token, grant.node)).toEqual(grant);
    expect(await refusal(token, verifier, anId("node"))).toBe("foreign");
    time += 64_000;
    expect(await refusal(token)).toBe(undefined);
    time += 1_000;
    expect(await refusal(token)).toBe("expired");
    // Nor for one that has never seen it.
    expect(await refusal(token, verifierOf(keys.publicKeyPem))).toBe("expired");
  });

  test("of 64 inputs is far smaller than the headers of a call may be", async () => {
    const inputs = Array.from({ length: 64 }, () => anId("art"));
    const token = await sign({ inputs });
    expect(token.length).toBeLessThan(4_096);
    expect((await verifier.verify(token, grant.node)).inputs).toEqual(inputs);
  });

  test("is refused where it is altered, of another key, or says too little", async () => {
    const token = await sign();
    const [header, , signature] = token.split(".");
    const [, other] = (await sign({ project: anId("proj") })).split(".");
    for (const bad of ["", "x", `${header}.${other}.${signature}`]) {
      expect(await refusal(bad), bad).toBe("invalid");
    }
    expect(await refusal(token, verifierOf(generateServiceKeys().publicKeyPem))).toBe("invalid");
    for (const of of [{ attempt: "att-1" }, { project: "proj-1" }, { task: "t" }, { org: "" }]) {
      const cut = await sign(of as Partial<StorageGrant>);
      expect(await refusal(cut), JSON.stringify(of)).toBe("invalid");
    }
  });

  test("and a service token of the same key are never taken for each other", async () => {
    const privateKeyPem = keys.privateKeyPem;
    const identity = createServiceIdentity({ name: "scheduler", privateKeyPem, clock });
    expect(await refusal(await identity.token({ audience: "storage" }))).toBe("invalid");
    // Nor is one that says all the same, but not that it is a grant.
    const { node, inputs: _, ...claims } = grant;
    const untyped = await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: "EdDSA", typ: "JWT" })
      .setIssuer("fastgpu-scheduler")
      .setAudience("fastgpu-storage")
      .setSubject(node)
      .setIssuedAt(time / 1000)
      .setExpirationTime(time / 1000 + 60)
      .sign(createPrivateKey(privateKeyPem));
    expect(await refusal(untyped)).toBe("invalid");
    const authenticator = createAuthenticator({
      service: "storage",
      clock,
      serviceKeys: { scheduler: keys.publicKeyPem },
      loadKeys: () => Promise.resolve({ keys: [] }),
      resolveProject: () => undefined,
    });
    const asToken = Promise.resolve(authenticator.authenticate(`Bearer ${await sign()}`));
    await expect(asToken).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
  });
});
