import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import type { Role } from "@fastgpu/domain/roles";
import { SignJWT, calculateJwkThumbprint, exportJWK } from "jose";
import type { JWK } from "jose";

/** What the two kinds of token say of themselves. */
export const tokenNames = {
  /** Issuer of users' and workers' tokens: the auth service. */
  accessIssuer: "fastgpu-auth",
  /** Issuer of the tokens that services sign for themselves. */
  serviceIssuer: "fastgpu-service",
  /** Audience of users' and workers' tokens, and of service tokens meant for every service. */
  audience: "fastgpu",
  /** Longest life of an access token, in milliseconds. */
  accessTtlMs: 15 * 60_000,
  /** Life of a service token, in milliseconds. */
  serviceTtlMs: 5 * 60_000,
} as const;

/** An Ed25519 key pair as PEM texts (PKCS #8 and SPKI). */
export interface ServiceKeys {
  readonly privateKeyPem: string;
  readonly publicKeyPem: string;
}

/** A new key pair for one service. */
export function generateServiceKeys(): ServiceKeys {
  const pair = generateKeyPairSync("ed25519");
  return {
    privateKeyPem: pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    publicKeyPem: pair.publicKey.export({ type: "spki", format: "pem" }).toString(),
  };
}

/** A key with which auth signs access tokens. */
export interface SigningKey {
  /** Key id: the RFC 7638 thumbprint of the public key. */
  readonly kid: string;
  readonly privateKey: KeyObject;
  /** The public half, as an entry of the JSON Web Key Set. */
  readonly jwk: JWK;
}

/** Reads a signing key from its PEM text. */
export async function loadSigningKey(privateKeyPem: string): Promise<SigningKey> {
  const privateKey = createPrivateKey(privateKeyPem);
  const jwk = await exportJWK(createPublicKey(privateKey));
  const kid = await calculateJwkThumbprint(jwk);
  return { kid, privateKey, jwk: { ...jwk, kid, alg: "EdDSA", use: "sig" } };
}

/** Whom an access token speaks for. */
export interface AccessClaims {
  /** `key-…`, `user-…` or `node-…`. */
  readonly sub: string;
  /** Organisation id; absent for workers. */
  readonly org?: string;
  /** The project id that the credential is bound to. */
  readonly project?: string;
  readonly role: Role;
}

/** Options of {@link signAccessToken}. */
export interface AccessTokenOptions {
  readonly key: SigningKey;
  readonly claims: AccessClaims;
  /** Now, in milliseconds since the epoch. */
  readonly nowMs: number;
  /** Life in milliseconds, at most (and by default) 15 minutes. */
  readonly ttlMs?: number;
}

/** Signs an access token: what auth's ExchangeToken answers. */
export function signAccessToken(options: AccessTokenOptions): Promise<string> {
  const { key, claims, nowMs } = options;
  const ttlMs = Math.min(options.ttlMs ?? tokenNames.accessTtlMs, tokenNames.accessTtlMs);
  const iat = Math.floor(nowMs / 1000);
  return new SignJWT({
    role: claims.role,
    ...(claims.org === undefined ? {} : { org: claims.org }),
    ...(claims.project === undefined ? {} : { project: claims.project }),
  })
    .setProtectedHeader({ alg: "EdDSA", kid: key.kid, typ: "JWT" })
    .setIssuer(tokenNames.accessIssuer)
    .setAudience(tokenNames.audience)
    .setSubject(claims.sub)
    .setIssuedAt(iat)
    .setExpirationTime(iat + Math.floor(ttlMs / 1000))
    .sign(key.privateKey);
}

/** For which call a service token is wanted. */
export interface ServiceTokenOptions {
  /** The service that is called, for example `billing`; missing: any. */
  readonly audience?: string | undefined;
  /** Id of the principal for whom the call is made. */
  readonly onBehalfOf?: string | undefined;
}

/** A service's own identity. */
export interface ServiceIdentity {
  /** For example `scheduler`; its principal is `service:scheduler`. */
  readonly name: string;
  /** A token of at most 5 minutes, made ahead of its end and kept. */
  token(options?: ServiceTokenOptions): Promise<string>;
}

/** Kept tokens per identity; with more callers acted for than this, the oldest are signed again. */
const keptTokens = 1_000;

/** The identity of a service from its private key (PEM). */
export function createServiceIdentity(options: {
  readonly name: string;
  readonly privateKeyPem: string;
  readonly clock: Clock;
}): ServiceIdentity {
  const { name, clock } = options;
  const privateKey = createPrivateKey(options.privateKeyPem);
  const kept = new Map<string, { readonly token: Promise<string>; readonly renewAtMs: number }>();
  return {
    name,
    token({ audience = tokenNames.audience, onBehalfOf } = {}) {
      const key = `${audience} ${onBehalfOf ?? ""}`;
      const nowMs = clock.nowMs();
      const found = kept.get(key);
      if (found !== undefined && nowMs < found.renewAtMs) return found.token;
      const token = signServiceToken({ name, privateKey, audience, onBehalfOf, nowMs });
      kept.delete(key);
      kept.set(key, { token, renewAtMs: nowMs + tokenNames.serviceTtlMs - 60_000 });
      for (const oldest of kept.keys()) {
        if (kept.size <= keptTokens) break;
        kept.delete(oldest);
      }
      return token;
    },
  };
}

function signServiceToken(of: {
  readonly name: string;
  readonly privateKey: KeyObject;
  readonly audience: string;
  readonly onBehalfOf: string | undefined;
  readonly nowMs: number;
}): Promise<string> {
  const iat = Math.floor(of.nowMs / 1000);
  return new SignJWT(of.onBehalfOf === undefined ? {} : { on_behalf_of: of.onBehalfOf })
    .setProtectedHeader({ alg: "EdDSA", typ: "JWT" })
    .setIssuer(tokenNames.serviceIssuer)
    .setAudience(of.audience)
    .setSubject(`service:${of.name}`)
    .setIssuedAt(iat)
    .setExpirationTime(iat + tokenNames.serviceTtlMs / 1000)
    .sign(of.privateKey);
}
