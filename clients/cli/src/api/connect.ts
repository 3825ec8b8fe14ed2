import {
  ApiKeyService,
  OrganizationService,
  ProjectService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { PolicyService } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { ReservationService } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { createChannel } from "@fastgpu/rpc/channel";
import { type CallOptions, type Client, createClient } from "@fastgpu/rpc/client";
import { type Settings, resolveSettings } from "../config/settings.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { CliError } from "../errors/cli-error.ts";
import { exitCodes } from "../errors/exit-codes.ts";
import { openSession } from "./session.ts";

/** The platform's API as the commands use it. Calls fail with a Fault. */
export interface Api {
  readonly tasks: Client<typeof TaskService>;
  readonly nodes: Client<typeof NodeService>;
  readonly policies: Client<typeof PolicyService>;
  readonly status: Client<typeof StatusService>;
  readonly queues: Client<typeof QueueService>;
  readonly reservations: Client<typeof ReservationService>;
  readonly artifacts: Client<typeof ArtifactService>;
  readonly billing: Client<typeof BillingService>;
  readonly organizations: Client<typeof OrganizationService>;
  readonly projects: Client<typeof ProjectService>;
  readonly keys: Client<typeof ApiKeyService>;
  readonly workers: Client<typeof WorkerIdentityService>;
  /** `projects/{project}`: as set, else the one that the key belongs to. */
  project(): Promise<string>;
  /** `organizations/{organization}`: as set, else the one that the key belongs to. */
  organization(): Promise<string>;
}

/** Opens the API for one command and closes it after. */
export async function withApi<T>(
  context: CliContext,
  options: CommonOptions,
  use: (api: Api) => Promise<T>,
): Promise<T> {
  const settings = resolveSettings(options, context.env);
  const session = openSession({
    address: settings.address,
    key: settings.key,
    nowMs: context.nowMs,
  });
  const channel = createChannel({ address: settings.address, token: session.token });
  const client = <S extends DescService>(service: S): Client<S> =>
    withDefaults(service, createClient(service, channel), options.timeout);
  try {
    return await use({
      tasks: client(TaskService),
      nodes: client(NodeService),
      policies: client(PolicyService),
      status: client(StatusService),
      queues: client(QueueService),
      reservations: client(ReservationService),
      artifacts: client(ArtifactService),
      billing: client(BillingService),
      organizations: client(OrganizationService),
      projects: client(ProjectService),
      keys: client(ApiKeyService),
      workers: client(WorkerIdentityService),
      project: async () => known("project", settings.project ?? (await session.identity()).project),
      organization: async () =>
        known("organization", settings.organization ?? (await session.identity()).organization),
    });
  } catch (error) {
    throw unreachable(error, settings);
  } finally {
    channel.close();
    session.close();
  }
}

/** A person waits: calls fail soon where there is no platform, and have the deadline that was asked for. */
function withDefaults<S extends DescService>(
  service: S,
  client: Client<S>,
  timeoutMs: number | undefined,
): Client<S> {
  type AnyCall = (request: never, options?: CallOptions) => unknown;
  const calls = client as Record<string, AnyCall>;
  const wrapped = service.methods.map((method: DescMethod) => {
    const call = calls[method.localName] as AnyCall;
    // The deadline is one of each call that answers once; a followed log has none.
    const limit = method.methodKind === "unary" && timeoutMs !== undefined ? { timeoutMs } : {};
    return [
      method.localName,
      (request: never, options?: CallOptions) =>
        call(request, { waitForReady: false, ...limit, ...options }),
    ];
  });
  return Object.fromEntries(wrapped) as Client<S>;
}

function known(what: "project" | "organization", name: string): string {
  if (name !== "") return name;
  const flag = what === "project" ? "project" : "org";
  throw new CliError(`there is no ${what} to act in`, {
    why: `the key belongs to none, and none is set`,
    hint: `--${flag} NAME, or fastgpu config set --${flag} NAME; fastgpu ${flag} list`,
  });
}

/** No answer at all is a matter of this side: which address, and what to do about it. */
function unreachable(error: unknown, { address, sources }: Settings): unknown {
  if (!(error instanceof Fault) || error.code !== "UNAVAILABLE") return error;
  if (error.metadata["request_id"] !== undefined) return error;
  return new CliError(`the platform at ${address} cannot be reached`, {
    why: `${error.message} (address from: ${sources.address})`,
    hint: "fastgpu start on this machine, or fastgpu config set --address HOST:PORT",
    exitCode: exitCodes.unavailable,
    cause: error,
  });
}
