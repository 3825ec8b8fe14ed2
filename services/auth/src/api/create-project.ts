import { Fault } from "@fastgpu/domain/fault";
import {
  CreateProjectRequestSchema,
  ProjectSchema,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { ProjectService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { plainText } from "@fastgpu/domain/text";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { factOf } from "../audit/fact.ts";
import { orgOfName, projectName } from "../names.ts";
import { freshId } from "../parts.ts";
import type { AuthParts } from "../parts.ts";
import { once } from "@fastgpu/postgres/once";
import { appendAudit } from "../store/audit-events.ts";
import { getOrganization } from "../store/organizations.ts";
import { addProject } from "../tenants.ts";
import { projectMessage } from "./messages.ts";

/** Creates a project in an organisation. */
export function createProject(
  parts: AuthParts,
): Handler<typeof ProjectService.method.createProject> {
  return async (request, context) => {
    const nowMs = parts.clock.nowMs();
    const orgId = orgOfName(request.parent);
    const project = {
      projectId: freshId("proj", nowMs),
      orgId,
      displayName: plainText("project.display_name", request.project?.displayName ?? ""),
      createdMs: nowMs,
    };
    const answer = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, { org: orgId, project: "all" });
      if ((await getOrganization(tx, orgId)) === undefined) throw Fault.notFound(request.parent);
      return once(
        tx,
        {
          org: orgId,
          method: context.method,
          requestId: request.requestId,
          request: { schema: CreateProjectRequestSchema, message: request },
          response: { schema: ProjectSchema, message: projectMessage(project) },
          nowMs,
        },
        async () => {
          await addProject(tx, project, context.traceparent);
          const resource = projectName(project.projectId);
          const fact = factOf(context, { nowMs, resource, project: project.projectId });
          await appendAudit(tx, orgId, [fact]);
        },
      );
    });
    parts.wakeRelay();
    return answer;
  };
}
