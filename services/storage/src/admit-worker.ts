import { parseId } from "@fastgpu/domain/ids";
import { Fault } from "@fastgpu/domain/fault";
import { parseMemberName } from "@fastgpu/domain/member-name";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import { grantRefused, storageGrantHeader } from "@fastgpu/rpc/storage-grant";
import type { StorageGrant } from "@fastgpu/rpc/storage-grant";
import type { PutManifestRequest } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { parseArtifactName } from "./names.ts";
import type { ProjectTenant } from "./names.ts";
import type { StorageParts } from "./parts.ts";
import { isOfCheckpoint, hasCheckpoint } from "./store/checkpoints.ts";

/** As what a worker's call is let in. */
export interface Admitted {
  readonly tenant: ProjectTenant;
  /** Undefined only where grants are not required. */
  readonly grant: StorageGrant | undefined;
}

/**
 * Lets a worker's call in for the project that `name` begins with: the one of its grant. All RPCs of workers begin with
 * this, since their role alone says nothing of whose files they may touch.
 */
export async function admitWorker(
  parts: StorageParts,
  context: CallContext,
  name: string,
): Promise<Admitted> {
  const [projects, projectText = ""] = name.split("/");
  const project = projects === "projects" ? parseId("proj", projectText) : undefined;
  const token = context.header(storageGrantHeader);
  if (token !== undefined) {
    const grant = await parts.grants.verify(token, context.principal.id);
    if (grant.project !== project) {
      throw grantRefused("foreign", "the storage grant is for another project");
    }
    return { tenant: { org: grant.org, project }, grant };
  }
  if (parts.requireGrants) {
    throw grantRefused("missing", `the call carries no storage grant (${storageGrantHeader})`);
  }
  if (project === undefined) throw Fault.notFound(name);
  const org = parseId("org", (await parts.resolveProject(project)) ?? "");
  if (org === undefined) throw Fault.notFound(name);
  return { tenant: { org, project }, grant: undefined };
}

/** An attempt stores as itself. */
export function requireAttempt({ grant }: Admitted, attempt: string): void {
  if (grant === undefined || grant.attempt === attempt) return;
  throw grantRefused("foreign", "the storage grant is for another attempt");
}

/** An attempt keeps a manifest of its own; a checkpoint is one of its task, member and epoch. */
export function requireOwnManifest(admitted: Admitted, request: PutManifestRequest): void {
  requireAttempt(admitted, request.attempt);
  const { grant } = admitted;
  const { checkpoint } = request;
  if (grant === undefined || checkpoint === undefined) return;
  const { task, member, epoch } = checkpoint;
  if (task === grant.task && member === memberOf(grant) && epoch === BigInt(grant.epoch)) return;
  throw grantRefused("foreign", "the storage grant is for another task, member or epoch");
}

/** An attempt reads its task's inputs, and what earlier attempts of its task and member have left with a checkpoint. */
export async function requireReadable(
  parts: StorageParts,
  { grant, tenant }: Admitted,
  name: string,
): Promise<void> {
  if (grant === undefined) return;
  const { artifact } = parseArtifactName(name);
  if (grant.inputs.includes(artifact)) return;
  const found = await transaction(parts.db.api, async (tx) => {
    await withTenant(tx, tenant);
    return isOfCheckpoint(tx, { ...whoseCheckpoint(grant), artifact });
  });
  if (!found) {
    throw grantRefused("foreign", `${name} is no input and not of a checkpoint of this attempt`);
  }
}

/** An attempt resumes from a checkpoint of its own task and member. */
export async function requireCheckpoint(
  parts: StorageParts,
  { grant, tenant }: Admitted,
  digest: string,
): Promise<void> {
  if (grant === undefined) return;
  const found = await transaction(parts.db.api, async (tx) => {
    await withTenant(tx, tenant);
    return hasCheckpoint(tx, { ...whoseCheckpoint(grant), digest });
  });
  // As where there is none: what else the project holds is not told.
  if (!found) throw Fault.notFound(`checkpoint ${digest} of this task`);
}

const memberOf = ({ attempt }: StorageGrant): number => parseMemberName(attempt)?.member ?? 0;

const whoseCheckpoint = (grant: StorageGrant) => ({
  projectId: grant.project,
  task: grant.task,
  member: memberOf(grant),
});
