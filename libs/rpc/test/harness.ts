import {
  createServiceIdentity,
  generateServiceKeys,
  loadSigningKey,
  signAccessToken,
} from "../src/tokens.ts";
import type { AccessClaims, ServiceTokenOptions } from "../src/tokens.ts";
import { createAuthenticator } from "../src/authenticator.ts";
import type { Authenticator } from "../src/authenticator.ts";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import type { BoundService } from "../src/handlers.ts";
import { startServer } from "../src/server.ts";
import type { RunningServer } from "../src/server.ts";

/** Real time: these tests cross real sockets. */
export const clock = { nowMs: () => Date.now() };
export const log = createLogger({ service: "test", level: "silent" });

/** An authority of its own: signs tokens and verifies them. */
export interface Authority {
  readonly authenticator: Authenticator;
  token(claims: AccessClaims, ttlMs?: number): Promise<string>;
  serviceToken(name: string, options?: ServiceTokenOptions): Promise<string>;
}

/** Projects that exist: id → organisation id. */
export const projects: Readonly<Record<string, string>> = {
  "proj-a": "org-a",
  "proj-a2": "org-a",
  "proj-b": "org-b",
};

export async function createAuthority(): Promise<Authority> {
  const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const services = { scheduler: generateServiceKeys(), billing: generateServiceKeys() };
  const authenticator = createAuthenticator({
    service: "test",
    clock,
    loadKeys: () => Promise.resolve({ keys: [key.jwk] }),
    serviceKeys: {
      scheduler: services.scheduler.publicKeyPem,
      billing: services.billing.publicKeyPem,
    },
    resolveProject: (id) => projects[id],
  });
  return {
    authenticator,
    token: (claims, ttlMs) =>
      signAccessToken({
        key,
        claims,
        nowMs: clock.nowMs(),
        ...(ttlMs === undefined ? {} : { ttlMs }),
      }),
    serviceToken(name, options) {
      const keys = services[name as keyof typeof services] ?? generateServiceKeys();
      return createServiceIdentity({ name, privateKeyPem: keys.privateKeyPem, clock }).token(
        options,
      );
    },
  };
}

/** A server on a free loopback port. */
export function serve(
  services: readonly BoundService[],
  auth: Authenticator,
): Promise<RunningServer> {
  return startServer({
    listen: { host: "127.0.0.1", port: 0 },
    services,
    auth,
    clock,
    log,
    tracing: passiveTracing,
  });
}
