import {
  ApiKeyService,
  AuditService,
  OrganizationService,
  ProjectService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { BillingService } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { PolicyService } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { ReservationService } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import { createChannel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";

/** Clients of a platform at an address, with an API key; they outlive its restarts. */
export function clientsAt(address: string, key: string) {
  const channel = createChannel({ address, token: () => Promise.resolve(key) });
  const close = (): void => channel.close();
  return {
    tasks: createClient(TaskService, channel),
    nodes: createClient(NodeService, channel),
    queues: createClient(QueueService, channel),
    policies: createClient(PolicyService, channel),
    reservations: createClient(ReservationService, channel),
    status: createClient(StatusService, channel),
    billing: createClient(BillingService, channel),
    organizations: createClient(OrganizationService, channel),
    projects: createClient(ProjectService, channel),
    keys: createClient(ApiKeyService, channel),
    audit: createClient(AuditService, channel),
    close,
    [Symbol.dispose]: close,
  };
}

/** Clients of a platform with its first key, or another one. */
export function clientsOf(
  p: { readonly key: string; readonly platform: { readonly address: string } },
  key = p.key,
) {
  return clientsAt(p.platform.address, key);
}

/** The clients of one key, by service. */
export type AllClients = ReturnType<typeof clientsAt>;
