import { create } from "@bufbuild/protobuf";
import type { DescService } from "@bufbuild/protobuf";
import { TokenService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { type Task, TaskSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { type BoundService, type Handlers, service } from "@fastgpu/rpc/handlers";
import { type RunningServer, startServer } from "@fastgpu/rpc/server";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { anId, aTenant } from "@fastgpu/testkit/factories";
import { quiet } from "@fastgpu/testkit/log";

/** A key that the scripted gateway takes. */
export const KEY = "fgpu_test_key_secret_crc";

/** Handlers of one test; what is left out answers NOT_FOUND. */
export interface Script {
  tasks?: Partial<Handlers<typeof TaskService>>;
  nodes?: Partial<Handlers<typeof NodeService>>;
  queues?: Partial<Handlers<typeof QueueService>>;
  billing?: Partial<Handlers<typeof BillingService>>;
  artifacts?: Partial<Handlers<typeof ArtifactService>>;
}

/** A real gRPC server at the gateway's place, whose faults a test can script: dropped streams, refusals, a drain. */
export interface ScriptedGateway {
  server: RunningServer;
  address: string;
  org: string;
  project: string;
}

/** Starts it; `port` to come back at the same address. */
export async function startGateway(
  script: Script,
  { port = 0, tenant = aTenant() }: { port?: number; tenant?: ReturnType<typeof aTenant> } = {},
): Promise<ScriptedGateway> {
  const tokens: Handlers<typeof TokenService> = {
    exchangeToken: async ({ credential }) => {
      if (credential.value !== KEY) throw new Fault("UNAUTHENTICATED", "the key is not known");
      const { org, project } = tenant;
      return {
        accessToken: "token",
        organization: `organizations/${org}`,
        project: `projects/${project}`,
        role: "org_admin",
      };
    },
    getJwks: async () => ({ jwksJson: "{}" }),
  };
  const server = await startServer({
    listen: { host: "127.0.0.1", port },
    services: [
      service(TokenService, tokens),
      complete(TaskService, script.tasks),
      complete(NodeService, script.nodes),
      complete(QueueService, script.queues),
      complete(BillingService, script.billing),
      complete(ArtifactService, script.artifacts),
    ],
    auth: {
      authenticate: (header) =>
        header === "Bearer token"
          ? { kind: "user", id: "key-1", org: tenant.org, role: "org_admin" }
          : { kind: "anonymous", id: "anonymous", role: "anonymous" },
      resolveProject: (id) => (id === tenant.project ? tenant.org : undefined),
    },
    clock: { nowMs: () => Date.now() },
    log: quiet,
    tracing: passiveTracing,
  });
  return {
    server,
    address: server.address,
    org: `organizations/${tenant.org}`,
    project: `projects/${tenant.project}`,
  };
}

function complete<S extends DescService>(
  descriptor: S,
  handlers: Partial<Handlers<S>> = {},
): BoundService {
  const absent = (): never => {
    throw new Fault("NOT_FOUND", "this test has no such thing");
  };
  const all = Object.fromEntries(descriptor.methods.map((method) => [method.localName, absent]));
  return service(descriptor, { ...all, ...handlers } as Handlers<S>);
}

/** A task of a scripted gateway. */
export function aTask(
  gateway: { project: string },
  init: Parameters<typeof create<typeof TaskSchema>>[1] = {},
): Task {
  return create(TaskSchema, {
    name: `${gateway.project}/tasks/${anId("task")}`,
    revision: 1n,
    ...init,
  });
}
