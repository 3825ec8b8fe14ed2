import type { OrganizationService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { AuthParts } from "../parts.ts";
import { listOrganizations as read } from "../store/organizations.ts";
import { organizationMessage } from "./messages.ts";

/** Lists all organisations, for the operator: the one reading across tenants, so it goes round row-level security. */
export function listOrganizations(
  parts: AuthParts,
): Handler<typeof OrganizationService.method.listOrganizations> {
  return async (request, context) => {
    const query = [context.method];
    const size = pageSize(request.pageSize);
    const cursor = parts.pageTokens.read(query, request.pageToken);
    const after = cursor === undefined ? undefined : parseId("org", cursor);
    const rows = await read(parts.db.core, { after, limit: size + 1 });
    const page = cutPage(rows, {
      size,
      tokens: parts.pageTokens,
      query,
      cursorOf: (row) => row.orgId,
    });
    return {
      organizations: page.rows.map(organizationMessage),
      nextPageToken: page.nextPageToken,
    };
  };
}
