import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ApiKeySchema,
  AuditEventSchema,
  OrganizationSchema,
  ProjectSchema,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { ChainedEvent } from "../audit/chain.ts";
import { apiKeyName, organizationName, projectName } from "../names.ts";
import type { ApiKey } from "../store/api-keys.ts";
import type { Organization } from "../store/organizations.ts";
import type { Project } from "../store/projects.ts";

/** An organisation as the API shows it. */
export function organizationMessage(
  organization: Organization,
): MessageInitShape<typeof OrganizationSchema> {
  return {
    name: organizationName(organization.orgId),
    displayName: organization.displayName,
    createTime: timestampFromMs(organization.createdMs),
  };
}

/** A project as the API shows it. */
export function projectMessage(project: Project): MessageInitShape<typeof ProjectSchema> {
  return {
    name: projectName(project.projectId),
    displayName: project.displayName,
    organization: organizationName(project.orgId),
    createTime: timestampFromMs(project.createdMs),
  };
}

/** A key as the API shows it: nothing of its secret. */
export function apiKeyMessage(key: ApiKey): MessageInitShape<typeof ApiKeySchema> {
  return {
    name: apiKeyName(key.orgId, key.keyId),
    displayName: key.displayName,
    project: key.projectId === undefined ? "" : projectName(key.projectId),
    role: key.role,
    createTime: timestampFromMs(key.createdMs),
    ...(key.expiresMs === undefined ? {} : { expireTime: timestampFromMs(key.expiresMs) }),
    ...(key.revokedMs === undefined ? {} : { revokeTime: timestampFromMs(key.revokedMs) }),
  };
}

/** An audit event as the API shows it. */
export function auditEventMessage(event: ChainedEvent): MessageInitShape<typeof AuditEventSchema> {
  return {
    seq: BigInt(event.seq),
    time: timestampFromMs(event.timeMs),
    principal: event.principal,
    method: event.method,
    resource: event.resource,
    project: event.project,
    requestId: event.requestId,
    hash: event.hash,
    deniedCalls: event.deniedCalls,
  };
}
