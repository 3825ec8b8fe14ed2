import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { Tenant } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";

/** The caller's own organisation. */
export function callerOrg(context: CallContext): OrgId {
  const org = parseId("org", context.principal.org ?? "");
  if (org === undefined) {
    throw new Fault("PERMISSION_DENIED", "this call needs the key of a person or program");
  }
  return org;
}

/** The tenant whose rows the call may touch: what its request named, as authorisation resolved it. */
export function tenantOf(context: CallContext): Tenant {
  const org = parseId("org", context.scope.org ?? "");
  if (org === undefined) throw Fault.notFound("the organisation");
  const bound = context.scope.project ?? context.principal.project;
  const project: ProjectId | "all" | undefined =
    bound === undefined ? "all" : parseId("proj", bound);
  if (project === undefined) throw Fault.notFound("the project");
  return { org, project };
}
