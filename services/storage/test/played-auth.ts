import { join } from "node:path";
import { ProjectService, TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Role } from "@fastgpu/domain/roles";
import type { Clock } from "@fastgpu/domain/clock";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import { service } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { generateServiceKeys, loadSigningKey, signAccessToken } from "@fastgpu/rpc/tokens";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { quiet } from "@fastgpu/testkit/log";

/** What storage asks auth for, over gRPC, with projects that the test names. */
export interface PlayedAuth extends AsyncDisposable {
  readonly address: string;
  readonly projects: Map<ProjectId, OrgId>;
  /** A token as auth would sign it. */
  tokenOf(claims: { sub: string; role: Role; org?: OrgId; project?: ProjectId }): Promise<string>;
}

/** Starts it on a unix socket in `directory`. */
export async function playAuth(options: {
  readonly directory: string;
  readonly clock: Clock;
  /** Public key (PEM) of the storage service that asks. */
  readonly storageKey: string;
}): Promise<PlayedAuth> {
  const { clock } = options;
  const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const jwksJson = JSON.stringify({ keys: [key.jwk] });
  const projects = new Map<ProjectId, OrgId>();
  const unused = (): Promise<never> => Promise.reject(Fault.notFound("this method"));
  const server = await startServer({
    listen: { path: join(options.directory, "auth.sock") },
    services: [
      service(TokenService, {
        getJwks: () => Promise.resolve({ jwksJson }),
        exchangeToken: unused,
      }),
      service(ProjectService, {
        resolveProject({ name }) {
          const org = projects.get(name.slice("projects/".length) as ProjectId);
          if (org === undefined) return Promise.reject(Fault.notFound(name));
          return Promise.resolve({ name, organization: `organizations/${org}` });
        },
        createProject: unused,
        getProject: unused,
        listProjects: unused,
      }),
    ],
    auth: createAuthenticator({
      service: "auth",
      clock,
      serviceKeys: { storage: options.storageKey },
      loadKeys: () => Promise.resolve({ keys: [] }),
      resolveProject: () => undefined,
    }),
    clock,
    log: quiet,
    tracing: passiveTracing,
  });
  return {
    address: server.address,
    projects,
    tokenOf: (claims) => signAccessToken({ key, claims, nowMs: clock.nowMs() }),
    [Symbol.asyncDispose]: () => server.close(0),
  };
}
