import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { TaskState } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { aborted, stopReason } from "@fastgpu/lifecycle/signals";
import type { StopReason } from "@fastgpu/lifecycle/signals";
import { createAuthenticator } from "@fastgpu/rpc/authenticator";
import type { CallContext } from "@fastgpu/rpc/context";
import { service } from "@fastgpu/rpc/handlers";
import type { Handlers } from "@fastgpu/rpc/handlers";
import { startServer } from "@fastgpu/rpc/server";
import { generateServiceKeys, loadSigningKey, signAccessToken } from "@fastgpu/rpc/tokens";
import { createLogger } from "@fastgpu/telemetry/log";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { namedSignals } from "@fastgpu/testkit/signals";
import type { NamedSignals } from "@fastgpu/testkit/signals";
import { gatewayConfig } from "../src/config.ts";
import type { GatewayConfig } from "../src/config.ts";
import { startGateway } from "../src/main.ts";

const clock = { nowMs: () => Date.now() };
const log = createLogger({ service: "test", level: "silent" });

/** What the services behind saw. */
export interface Seen {
  exchanges: number;
  last: CallContext | undefined;
  /** Why the last watched call ended. */
  stopped: PromiseWithResolvers<StopReason | undefined>;
  /** `message`s of uploads, and how the uploads ended: `complete` or `broken off`. */
  uploads: NamedSignals;
}

const unused = (): never => {
  throw new Error("a secret of ours");
};

function taskHandlers(seen: Seen): Handlers<typeof TaskService> {
  return {
    async createTask(request, context) {
      seen.last = context;
      return { name: `${request.parent}/tasks/task-1`, state: TaskState.DRAFT };
    },
    async getTask(request, context) {
      seen.last = context;
      if (request.name.endsWith("bug")) unused();
      if (request.name.endsWith("none")) throw Fault.notFound(request.name, "list the tasks");
      if (request.name.endsWith("slow")) {
        await aborted(context.signal);
        seen.stopped.resolve(stopReason(context.signal));
      }
      return { name: request.name };
    },
    async *watchTask(request, context) {
      yield { task: { name: request.name, revision: 1n } };
      yield { task: { name: request.name, revision: 2n } };
      if (request.name.endsWith("short")) return;
      if (request.name.endsWith("bug")) unused();
      await aborted(context.signal);
      seen.stopped.resolve(stopReason(context.signal));
    },
    submitTask: unused,
    runTask: unused,
    batchRunTasks: unused,
    listTasks: unused,
    cancelTask: unused,
    listAttempts: unused,
    explainTask: unused,
    quoteTask: unused,
    readLogs: unused,
  };
}

function artifactHandlers(seen: Seen): Handlers<typeof ArtifactService> {
  return {
    async uploadArtifact(requests) {
      let sizeBytes = 0n;
      try {
        for await (const { part } of requests) {
          if (part.case === "data") sizeBytes += BigInt(part.value.length);
          seen.uploads.fire("message");
        }
      } catch (error) {
        seen.uploads.fire("broken off");
        throw error;
      }
      seen.uploads.fire("complete");
      return { sizeBytes };
    },
    async *downloadArtifact() {
      for (let i = 0; i < 64; i += 1) yield { data: new Uint8Array(256 * 1024).fill(i) };
    },
    getUpload: unused,
    getArtifact: unused,
    listArtifacts: unused,
    getManifest: unused,
  };
}

/** The one key that the services behind know: of org-a. */
export const goodKey = "fgpu_test_0001_secret_crc";

/** The real gateway in front of real servers whose handlers say what they saw. */
export async function startAll(overrides: Partial<GatewayConfig> = {}) {
  const key = await loadSigningKey(generateServiceKeys().privateKeyPem);
  const seen: Seen = {
    exchanges: 0,
    last: undefined,
    stopped: Promise.withResolvers(),
    uploads: namedSignals(),
  };
  const jwks = { keys: [key.jwk] };
  const tokenOf = (nowMs: number) =>
    signAccessToken({ key, claims: { sub: "key-a", org: "org-a", role: "org_admin" }, nowMs });
  const tokens: Handlers<typeof TokenService> = {
    async exchangeToken({ credential }) {
      seen.exchanges += 1;
      if (credential.case !== "apiKey" || credential.value !== goodKey) {
        throw new Fault("UNAUTHENTICATED", "the API key is not known");
      }
      const nowMs = clock.nowMs();
      return {
        accessToken: await tokenOf(nowMs),
        expireTime: timestampFromMs(nowMs + 900_000),
        principal: "key-a",
        organization: "organizations/org-a",
      };
    },
    async getJwks() {
      return { jwksJson: JSON.stringify(jwks) };
    },
  };
  const authenticator = createAuthenticator({
    service: "test",
    clock,
    loadKeys: () => Promise.resolve(jwks),
    serviceKeys: {},
    resolveProject: (id) => ({ "proj-a": "org-a", "proj-b": "org-b" })[id],
  });
  const server = await startServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [
      service(TokenService, tokens),
      service(TaskService, taskHandlers(seen)),
      service(ArtifactService, artifactHandlers(seen)),
    ],
    auth: authenticator,
    clock,
    log,
    tracing: passiveTracing,
  });
  const { address } = server;
  const config = gatewayConfig.parse({
    port: 0,
    drainMs: 500,
    upstreams: {
      auth: address,
      scheduler: address,
      billing: "127.0.0.1:1",
      monitor: address,
      storage: address,
    },
    ...overrides,
  });
  const gateway = await startGateway(config, { clock, log, tracing: passiveTracing });
  return {
    seen,
    server,
    gateway,
    address: `127.0.0.1:${gateway.port}`,
    url: `http://127.0.0.1:${gateway.port}`,
    token: () => tokenOf(clock.nowMs()),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await server.close(0);
    },
  };
}
