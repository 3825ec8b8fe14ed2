import type { ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Handler } from "@fastgpu/rpc/handlers";
import { projectOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { getProject } from "../store/projects.ts";
import { projectMessage } from "./messages.ts";

/** Tells a service whose a project is; services authorise their own callers with it. */
export function resolveProject(
  parts: AuthParts,
): Handler<typeof ProjectService.method.resolveProject> {
  return async (request) => {
    const found = await getProject(parts.db.core, projectOfName(request.name));
    if (found === undefined) throw Fault.notFound(request.name);
    return projectMessage(found);
  };
}
