import { createPublicKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import { roles } from "@fastgpu/domain/roles";
import type { Role } from "@fastgpu/domain/roles";
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify } from "jose";
import type { JSONWebKeySet, JWTPayload } from "jose";
import { anonymous } from "./principal.ts";
import type { Principal } from "./principal.ts";
import { tokenNames } from "./tokens.ts";

/** Tells who makes a call, and whose a project is. */
export interface Authenticator {
  /**
   * The principal of an `authorization` header; nobody where there is none. A token seen before answers at once.
   * Throws (or rejects with) UNAUTHENTICATED or TOKEN_EXPIRED.
   */
  authenticate(authorization: string | undefined): Principal | Promise<Principal>;
  /** The organisation id of a project id, or undefined where there is no such project. */
  resolveProject(projectId: string): Promise<string | undefined> | string | undefined;
}

/** Options of {@link createAuthenticator}. */
export interface AuthenticatorOptions {
  /** Name of the service that asks: the audience it accepts service tokens for, beside `fastgpu`. */
  readonly service: string;
  readonly clock: Clock;
  /** Reads auth's JSON Web Key Set. */
  readonly loadKeys: () => Promise<JSONWebKeySet>;
  /** Public keys (PEM) of the services that may call, by their names. */
  readonly serviceKeys: Readonly<Record<string, string>>;
  /** The directory of projects; see `cachedProjects`. */
  readonly resolveProject: Authenticator["resolveProject"];
}

/** Verified tokens that are remembered; a token is verified again after it fell out. */
const rememberedTokens = 10_000;
/** Shortest time between two loads of the key set because of an unknown key id, in milliseconds. */
const reloadGapMs = 5_000;
/** Difference of clocks that is forgiven, in seconds. */
const toleranceS = 5;

/** An authenticator that can be told of a revocation before the tokens end by themselves. */
export interface RevocableAuthenticator extends Authenticator {
  /** Refuses the tokens that a principal has now: TOKEN_EXPIRED, for as long as the longest of them could live. */
  revoke(principalId: string): void;
}

/** An authenticator that verifies tokens locally: no call leaves the process but the rare load of auth's keys. */
export function createAuthenticator(options: AuthenticatorOptions): RevocableAuthenticator {
  const { clock } = options;
  const accessKeys = createKeyStore(options.loadKeys, clock);
  const serviceKeys = new Map(
    Object.entries(options.serviceKeys).map(
      ([name, pem]) => [`service:${name}`, createPublicKey(pem)] as const,
    ),
  );
  const verified = new Map<string, Principal>();
  const revokedUntilMs = new Map<string, number>();

  function requireUnrevoked(principal: Principal): Principal {
    if (revokedUntilMs.size === 0) return principal;
    if (clock.nowMs() < (revokedUntilMs.get(principal.id) ?? 0)) throw revoked();
    return principal;
  }

  async function verify(token: string): Promise<Principal> {
    try {
      const principal = await verifyToken(token, {
        accessKeys,
        serviceKeys,
        service: options.service,
        nowMs: clock.nowMs(),
      });
      verified.set(token, principal);
      for (const oldest of verified.keys()) {
        if (verified.size <= rememberedTokens) break;
        verified.delete(oldest);
      }
      return requireUnrevoked(principal);
    } catch (error) {
      throw describe(error);
    }
  }

  return {
    resolveProject: options.resolveProject,
    authenticate(authorization) {
      if (authorization === undefined) return anonymous;
      const token = /^bearer +(\S+)$/i.exec(authorization)?.[1];
      if (token === undefined) {
        throw unauthenticated("the authorization header is not `Bearer TOKEN`");
      }
      const known = verified.get(token);
      if (known === undefined) return verify(token);
      if (clock.nowMs() > (known.expiresAtMs ?? 0) + toleranceS * 1000) {
        verified.delete(token);
        throw expired();
      }
      return requireUnrevoked(known);
    },
    revoke(principalId) {
      const nowMs = clock.nowMs();
      for (const [id, untilMs] of revokedUntilMs) if (untilMs <= nowMs) revokedUntilMs.delete(id);
      revokedUntilMs.set(principalId, nowMs + tokenNames.accessTtlMs + toleranceS * 1000);
    },
  };
}

interface VerifyOptions {
  readonly accessKeys: KeyStore;
  readonly serviceKeys: ReadonlyMap<string, KeyObject>;
  readonly service: string;
  readonly nowMs: number;
}

async function verifyToken(token: string, options: VerifyOptions): Promise<Principal> {
  const claimed = decodeJwt(token);
  const common = {
    algorithms: ["EdDSA"],
    currentDate: new Date(options.nowMs),
    clockTolerance: toleranceS,
    requiredClaims: ["sub", "exp", "iat"],
  };
  if (claimed.iss === tokenNames.serviceIssuer) {
    const key = options.serviceKeys.get(claimed.sub ?? "");
    if (key === undefined) throw unauthenticated("the token's service is not known here");
    const { payload } = await jwtVerify(token, key, {
      ...common,
      issuer: tokenNames.serviceIssuer,
      audience: [options.service, tokenNames.audience],
      maxTokenAge: tokenNames.serviceTtlMs / 1000,
    });
    return servicePrincipal(payload);
  }
  const { kid } = decodeProtectedHeader(token);
  const key = await options.accessKeys.find(kid ?? "");
  if (key === undefined) throw unauthenticated("the token is signed with an unknown key");
  const { payload } = await jwtVerify(token, key, {
    ...common,
    issuer: tokenNames.accessIssuer,
    audience: tokenNames.audience,
    maxTokenAge: tokenNames.accessTtlMs / 1000,
  });
  return accessPrincipal(payload);
}

function servicePrincipal(payload: JWTPayload): Principal {
  const onBehalfOf = textClaim(payload, "on_behalf_of");
  return {
    kind: "service",
    id: payload.sub ?? "",
    role: "service",
    expiresAtMs: (payload.exp ?? 0) * 1000,
    ...(onBehalfOf === undefined ? {} : { onBehalfOf }),
  };
}

function accessPrincipal(payload: JWTPayload): Principal {
  const id = payload.sub ?? "";
  const role = roles.find((known) => known === payload["role"]);
  const org = textClaim(payload, "org");
  const project = textClaim(payload, "project");
  const kind = id.startsWith("node-") ? "worker" : "user";
  if (!roleFits(kind, role)) throw unauthenticated("the token's role does not fit its subject");
  return {
    kind,
    id,
    role,
    expiresAtMs: (payload.exp ?? 0) * 1000,
    ...(org === undefined ? {} : { org }),
    ...(project === undefined ? {} : { project }),
  };
}

/** Workers have the worker's role and nobody else has it; auth signs for no service. */
function roleFits(kind: "user" | "worker", role: Role | undefined): role is Role {
  return role !== undefined && role !== "service" && (role === "worker") === (kind === "worker");
}

function textClaim(payload: JWTPayload, name: string): string | undefined {
  const value = payload[name];
  return typeof value === "string" && value !== "" ? value : undefined;
}

function describe(error: unknown): Fault {
  if (error instanceof Fault) return error;
  if (error instanceof errors.JWTExpired) return expired();
  if (error instanceof errors.JOSEError || error instanceof TypeError) {
    return unauthenticated("the token is not valid", error);
  }
  return new Fault("UNAVAILABLE", "the keys that verify tokens cannot be read at the moment", {
    retryAfterMs: 1_000,
    cause: error,
  });
}

function revoked(): Fault {
  return new Fault("TOKEN_EXPIRED", "the key that this token was made with was revoked", {
    hint: "use another API key",
  });
}

function expired(): Fault {
  return new Fault("TOKEN_EXPIRED", "the token has expired", {
    hint: "exchange the API key for a new token",
  });
}

function unauthenticated(message: string, cause?: unknown): Fault {
  return new Fault("UNAUTHENTICATED", message, {
    hint: "send `authorization: Bearer TOKEN` with a token of this platform, or an API key to the gateway",
    cause,
  });
}

interface KeyStore {
  /** The key of this id, after a reload where it is new. */
  find(kid: string): Promise<KeyObject | undefined>;
}

function createKeyStore(load: () => Promise<JSONWebKeySet>, clock: Clock): KeyStore {
  let keys = new Map<string, KeyObject>();
  let loadedAtMs = Number.NEGATIVE_INFINITY;
  let loading: Promise<void> | undefined;
  async function reload(): Promise<void> {
    const set = await load();
    keys = new Map(
      set.keys.flatMap((jwk) =>
        jwk.kid === undefined
          ? []
          : [[jwk.kid, createPublicKey({ key: { ...jwk }, format: "jwk" })] as const],
      ),
    );
    loadedAtMs = clock.nowMs();
  }
  return {
    async find(kid) {
      if (!keys.has(kid) && clock.nowMs() - loadedAtMs >= reloadGapMs) {
        loading ??= reload().finally(() => {
          loading = undefined;
        });
        await loading;
      }
      return keys.get(kid);
    },
  };
}
