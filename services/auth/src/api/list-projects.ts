import type { ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import { tenantOf } from "../caller.ts";
import { orgOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { listProjects as read } from "../store/projects.ts";
import { projectMessage } from "./messages.ts";

/** Lists the projects of an organisation, oldest first. */
export function listProjects(parts: AuthParts): Handler<typeof ProjectService.method.listProjects> {
  return async (request, context) => {
    const orgId = orgOfName(request.parent);
    const query = [context.method, orgId];
    const size = pageSize(request.pageSize);
    const cursor = parts.pageTokens.read(query, request.pageToken);
    const after = cursor === undefined ? undefined : parseId("proj", cursor);
    const rows = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, { orgId, after, limit: size + 1 });
    });
    const page = cutPage(rows, {
      size,
      tokens: parts.pageTokens,
      query,
      cursorOf: (row) => row.projectId,
    });
    return { projects: page.rows.map(projectMessage), nextPageToken: page.nextPageToken };
  };
}
