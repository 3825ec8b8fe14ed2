import { timestampMs } from "@bufbuild/protobuf/wkt";
import type {
  ApiKey as ApiKeyMessage,
  ApiKeyService,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { permissionsOfRole } from "@fastgpu/domain/roles";
import { plainText } from "@fastgpu/domain/text";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Handler } from "@fastgpu/rpc/handlers";
import { factOf } from "../audit/fact.ts";
import { apiKeyMac, formatApiKey, newApiKeyParts } from "../keys/api-key.ts";
import { apiKeyName, orgOfName, projectOfName } from "../names.ts";
import { freshId, keyPurposes } from "../parts.ts";
import type { AuthParts } from "../parts.ts";
import { getApiKey, insertApiKey, keyRoles } from "../store/api-keys.ts";
import type { ApiKey, KeyRole } from "../store/api-keys.ts";
import { appendAudit } from "../store/audit-events.ts";
import { getOrganization } from "../store/organizations.ts";
import { getProject } from "../store/projects.ts";
import { apiKeyMessage } from "./messages.ts";

/**
 * Creates a key that can do no more, act on no more and live no longer than the caller's. Its secret is in this answer
 * and nowhere else, so the call has no request id: after a lost answer revoke the key and create another.
 */
export function createApiKey(parts: AuthParts): Handler<typeof ApiKeyService.method.createApiKey> {
  return async (request, context) => {
    const nowMs = parts.clock.nowMs();
    const orgId = orgOfName(request.parent);
    const wanted = request.apiKey;
    if (wanted === undefined) throw Fault.invalid("api_key", "is required");
    const role = roleOf(wanted, orgId, context);
    const projectId = wanted.project === "" ? undefined : projectOf(wanted, role);
    const secretParts = newApiKeyParts(parts.env, freshId("key", nowMs));
    const created = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, { org: orgId, project: "all" });
      if ((await getOrganization(tx, orgId)) === undefined) throw Fault.notFound(request.parent);
      if (projectId !== undefined) await requireProject(tx, projectId, orgId);
      const key: ApiKey = {
        keyId: secretParts.keyId,
        orgId,
        projectId,
        displayName: plainText("api_key.display_name", wanted.displayName),
        role,
        mac: apiKeyMac(parts.master.derive(keyPurposes.apiKeys), secretParts),
        createdBy: context.principal.id,
        createdMs: nowMs,
        expiresMs: await endOf(parts, wanted, { context, nowMs }),
        revokedMs: undefined,
      };
      await insertApiKey(tx, key);
      const resource = apiKeyName(orgId, key.keyId);
      const fact = factOf(context, { nowMs, resource, project: projectId ?? "" });
      await appendAudit(tx, orgId, [fact]);
      return key;
    });
    return { apiKey: apiKeyMessage(created), secret: formatApiKey(secretParts) };
  };
}

function roleOf(wanted: ApiKeyMessage, orgId: OrgId, context: CallContext): KeyRole {
  const role = keyRoles.find((known) => known === wanted.role);
  if (role === undefined) {
    throw Fault.invalid("api_key.role", "must be org_admin, project_editor or project_viewer");
  }
  const caller = context.principal.role;
  const own = caller === "anonymous" ? new Set<string>() : permissionsOfRole[caller];
  const beyond = [...permissionsOfRole[role]].filter((permission) => !own.has(permission));
  if (beyond.length > 0) {
    throw new Fault("PERMISSION_DENIED", `a key of role ${role} could do more than the caller`, {
      hint: `ask somebody who has ${role} for it`,
      metadata: { permission: beyond[0] ?? "" },
    });
  }
  if (role === "platform_operator" && orgId !== context.principal.org) {
    throw Fault.invalid("api_key.role", "platform_operator stays in the operator's organisation");
  }
  return role;
}

function projectOf(wanted: ApiKeyMessage, role: KeyRole): ProjectId {
  if (role !== "project_editor" && role !== "project_viewer") {
    throw Fault.invalid(
      "api_key.role",
      "of a project's key must be project_editor or project_viewer",
    );
  }
  return projectOfName(wanted.project);
}

async function requireProject(tx: Tx, projectId: ProjectId, orgId: OrgId): Promise<void> {
  const project = await getProject(tx, projectId);
  if (project?.orgId === orgId) return;
  throw Fault.invalid("api_key.project", "is no project of the organisation");
}

/** When the key ends: as asked, but never after the key that made it. */
async function endOf(
  parts: AuthParts,
  wanted: ApiKeyMessage,
  call: { context: CallContext; nowMs: number },
): Promise<number | undefined> {
  const asked = wanted.expireTime === undefined ? undefined : timestampMs(wanted.expireTime);
  if (asked !== undefined && asked <= call.nowMs) {
    throw Fault.invalid("api_key.expire_time", "must be in the future");
  }
  const callerKey = parseId("key", call.context.principal.id);
  // The operator's key may be of another organisation than the new one.
  const caller = callerKey === undefined ? undefined : await getApiKey(parts.db.core, callerKey);
  const bound = caller?.expiresMs;
  if (bound === undefined) return asked;
  if (asked !== undefined && asked > bound) {
    throw Fault.invalid(
      "api_key.expire_time",
      "must not be after the end of the key that makes it",
      `at the latest ${new Date(bound).toISOString()}`,
    );
  }
  return asked ?? bound;
}
