import type { ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { tenantOf } from "../caller.ts";
import { projectOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { getProject as read } from "../store/projects.ts";
import { projectMessage } from "./messages.ts";

/** Reads one project. */
export function getProject(parts: AuthParts): Handler<typeof ProjectService.method.getProject> {
  return async (request, context) => {
    const projectId = projectOfName(request.name);
    const found = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, projectId);
    });
    if (found === undefined) throw Fault.notFound(request.name);
    return projectMessage(found);
  };
}
