import type { ApiKeyId, OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { MasterKey } from "@fastgpu/lifecycle/master-key";
import type { Pool } from "@fastgpu/postgres/pool";
import { statement } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Tx } from "@fastgpu/postgres/transaction";
import type { AuditFact } from "./audit/chain.ts";
import { apiKeyMac, formatApiKey, newApiKeyParts } from "./keys/api-key.ts";
import { apiKeyName, organizationName, projectName } from "./names.ts";
import { freshId, keyPurposes } from "./parts.ts";
import { insertApiKey } from "./store/api-keys.ts";
import { appendAudit } from "./store/audit-events.ts";
import { listOrganizations } from "./store/organizations.ts";
import { listProjects } from "./store/projects.ts";
import { addOrganization, addProject } from "./tenants.ts";
import { ensureSigningKey } from "./tokens/signing-keys.ts";

/** The principal of what the first start does. */
export const bootstrapPrincipal = "service:bootstrap";

/** Options of {@link bootstrap}. */
export interface BootstrapOptions {
  /** Pool of the role `auth_core`. */
  readonly core: Pool;
  readonly master: MasterKey;
  readonly nowMs: number;
  /** Marks the key; the same as in the service's configuration. */
  readonly env: string;
}

/** What the first start made, or what an earlier one had made. */
export interface Bootstrapped {
  readonly org: OrgId;
  readonly project: ProjectId;
  /** The operator's first key with its secret: at the first start only. */
  readonly firstKey: NewKey | undefined;
}

/** A key with its secret text, which is kept nowhere. */
export interface NewKey {
  readonly keyId: ApiKeyId;
  readonly secret: string;
}

const lock = statement(
  "bootstrap_lock",
  "SELECT pg_advisory_xact_lock(hashtextextended('auth.bootstrap', 0))",
);

/**
 * Makes what the platform cannot be without: the signing key, the organisation and project `default` and the operator's
 * API key. All or nothing, once: every later call, from any process, only answers what there is.
 */
export async function bootstrap(options: BootstrapOptions): Promise<Bootstrapped> {
  return transaction(options.core, async (tx) => {
    await tx.query(lock);
    await ensureSigningKey(tx, options);
    const [org] = await listOrganizations(tx, { after: undefined, limit: 1 });
    if (org === undefined) return firstStart(tx, options);
    const { orgId } = org;
    const [project] = await listProjects(tx, { orgId, after: undefined, limit: 1 });
    if (project === undefined) throw new Error(`${orgId} has no project`);
    return { org: orgId, project: project.projectId, firstKey: undefined };
  });
}

async function firstStart(tx: Tx, options: BootstrapOptions): Promise<Bootstrapped> {
  const { nowMs } = options;
  const orgId = freshId("org", nowMs);
  const projectId = freshId("proj", nowMs);
  const named = { displayName: "default", createdMs: nowMs };
  await addOrganization(tx, { orgId, ...named }, "");
  await addProject(tx, { orgId, projectId, ...named }, "");
  await appendAudit(tx, orgId, [
    fact(nowMs, "OrganizationService/CreateOrganization", organizationName(orgId)),
    fact(nowMs, "ProjectService/CreateProject", projectName(projectId), projectId),
  ]);
  const firstKey = await addOperatorKey(tx, { ...options, org: orgId, displayName: "first key" });
  return { org: orgId, project: projectId, firstKey };
}

/**
 * Makes another operator's key, for whoever holds the master key and the database but has lost every key. Recorded in
 * the audit log as made by {@link bootstrapPrincipal}.
 */
export async function recoverOperatorKey(
  options: BootstrapOptions & { readonly org: OrgId },
): Promise<NewKey> {
  return transaction(options.core, (tx) =>
    addOperatorKey(tx, { ...options, displayName: "recovered key" }),
  );
}

async function addOperatorKey(
  tx: Tx,
  options: BootstrapOptions & { readonly org: OrgId; readonly displayName: string },
): Promise<NewKey> {
  const { master, nowMs, org, displayName } = options;
  const parts = newApiKeyParts(options.env, freshId("key", nowMs));
  const { keyId } = parts;
  await insertApiKey(tx, {
    keyId,
    orgId: org,
    projectId: undefined,
    displayName,
    role: "platform_operator",
    mac: apiKeyMac(master.derive(keyPurposes.apiKeys), parts),
    createdBy: bootstrapPrincipal,
    createdMs: nowMs,
    expiresMs: undefined,
  });
  const name = apiKeyName(org, keyId);
  await appendAudit(tx, org, [fact(nowMs, "ApiKeyService/CreateApiKey", name)]);
  return { keyId, secret: formatApiKey(parts) };
}

function fact(nowMs: number, method: string, resource: string, project: string = ""): AuditFact {
  return {
    timeMs: nowMs,
    principal: bootstrapPrincipal,
    method: `fastgpu.auth.v1.${method}`,
    resource,
    project,
    requestId: "",
    deniedCalls: 0,
  };
}
