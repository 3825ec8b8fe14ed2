import {
  ApiKeyService,
  AuditService,
  OrganizationService,
  ProjectService,
  TokenService,
  WorkerIdentityService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import { service } from "@fastgpu/rpc/handlers";
import type { BoundService } from "@fastgpu/rpc/handlers";
import type { AuthParts } from "../parts.ts";
import { createApiKey } from "./create-api-key.ts";
import { createOrganization } from "./create-organization.ts";
import { createProject } from "./create-project.ts";
import { createWorkerJoinToken } from "./create-worker-join-token.ts";
import { exchangeToken } from "./exchange-token.ts";
import { getJwks } from "./get-jwks.ts";
import { getOrganization } from "./get-organization.ts";
import { getProject } from "./get-project.ts";
import { joinWorker } from "./join-worker.ts";
import { listApiKeys } from "./list-api-keys.ts";
import { listAuditEvents } from "./list-audit-events.ts";
import { listEvents } from "./list-events.ts";
import { listOrganizations } from "./list-organizations.ts";
import { listProjects } from "./list-projects.ts";
import { resolveProject } from "./resolve-project.ts";
import { revokeApiKey } from "./revoke-api-key.ts";

/** Everything that the service serves. */
export function authServices(parts: AuthParts): BoundService[] {
  return [
    service(TokenService, { exchangeToken: exchangeToken(parts), getJwks: getJwks(parts) }),
    service(OrganizationService, {
      createOrganization: createOrganization(parts),
      getOrganization: getOrganization(parts),
      listOrganizations: listOrganizations(parts),
    }),
    service(ProjectService, {
      createProject: createProject(parts),
      getProject: getProject(parts),
      listProjects: listProjects(parts),
      resolveProject: resolveProject(parts),
    }),
    service(ApiKeyService, {
      createApiKey: createApiKey(parts),
      listApiKeys: listApiKeys(parts),
      revokeApiKey: revokeApiKey(parts),
    }),
    service(WorkerIdentityService, {
      createWorkerJoinToken: createWorkerJoinToken(parts),
      joinWorker: joinWorker(parts),
    }),
    service(AuditService, { listAuditEvents: listAuditEvents(parts) }),
    service(EventLogService, { listEvents: listEvents(parts) }),
  ];
}
