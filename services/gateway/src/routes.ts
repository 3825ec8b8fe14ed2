import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  ApiKeyService,
  AuditService,
  OrganizationService,
  ProjectService,
  TokenService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import {
  BillingService,
  HoldService,
} from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { MonitorService } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { NodeService } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { PolicyService } from "@fastgpu/contracts/fastgpu/scheduler/v1/policy_service_pb";
import { QueueService } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { ReservationService } from "@fastgpu/contracts/fastgpu/scheduler/v1/reservation_service_pb";
import { StatusService } from "@fastgpu/contracts/fastgpu/scheduler/v1/status_service_pb";
import { TaskService } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_service_pb";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { WorkerSessionService } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Health } from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { ServerReflection } from "@fastgpu/contracts/grpc/reflection/v1/reflection_pb";
import { ServerReflection as ServerReflectionAlpha } from "@fastgpu/contracts/grpc/reflection/v1alpha/reflection_pb";
import type { UpstreamName } from "./config.ts";

/** The public services and who serves them. A service of proto/ stands here or in `internalServices`. */
export const publicServices: readonly (readonly [DescService, UpstreamName])[] = [
  [TokenService, "auth"],
  [OrganizationService, "auth"],
  [ProjectService, "auth"],
  [ApiKeyService, "auth"],
  [WorkerIdentityService, "auth"],
  [AuditService, "auth"],
  [TaskService, "scheduler"],
  [NodeService, "scheduler"],
  [QueueService, "scheduler"],
  [PolicyService, "scheduler"],
  [ReservationService, "scheduler"],
  [StatusService, "scheduler"],
  [BillingService, "billing"],
  [MonitorService, "monitor"],
  [ArtifactService, "storage"],
];

/** Services for other services and for workers, who dial them directly. */
export const internalServices: readonly DescService[] = [
  EventLogService,
  HoldService,
  WorkerSessionService,
  AttemptStorageService,
];

/** Methods of public services that only other services call. */
const internalMethods: ReadonlySet<DescMethod> = new Set([ProjectService.method.resolveProject]);

/** A method that the gateway passes on. */
export interface Route {
  readonly method: DescMethod;
  readonly upstream: UpstreamName;
}

/** Every method that the gateway passes on, by its path `/package.Service/Method`. */
export const routes: ReadonlyMap<string, Route> = new Map(
  publicServices.flatMap(([service, upstream]) =>
    service.methods
      .filter((method) => !internalMethods.has(method))
      .map((method) => [`/${service.typeName}/${method.name}`, { method, upstream }] as const),
  ),
);

/** What the gateway answers itself. */
export const ownServices: readonly DescService[] = [
  Health,
  ServerReflection,
  ServerReflectionAlpha,
];

const ownPaths: ReadonlySet<string> = new Set(
  ownServices.flatMap((service) =>
    service.methods.map((method) => `/${service.typeName}/${method.name}`),
  ),
);

/** Whether a method is at this path. */
export function isMethodPath(path: string): boolean {
  return routes.has(path) || ownPaths.has(path);
}
