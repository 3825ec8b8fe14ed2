import type { OrganizationService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { tenantOf } from "../caller.ts";
import { orgOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { getOrganization as read } from "../store/organizations.ts";
import { organizationMessage } from "./messages.ts";

/** Reads one organisation. */
export function getOrganization(
  parts: AuthParts,
): Handler<typeof OrganizationService.method.getOrganization> {
  return async (request, context) => {
    const orgId = orgOfName(request.name);
    const found = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, orgId);
    });
    if (found === undefined) throw Fault.notFound(request.name);
    return organizationMessage(found);
  };
}
