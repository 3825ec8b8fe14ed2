import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  CreateOrganizationRequestSchema,
  OrganizationSchema,
} from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import type { OrganizationService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { plainText } from "@fastgpu/domain/text";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { factOf } from "../audit/fact.ts";
import { callerOrg } from "../caller.ts";
import { organizationName } from "../names.ts";
import { freshId } from "../parts.ts";
import type { AuthParts } from "../parts.ts";
import { once } from "@fastgpu/postgres/once";
import { appendAudit } from "../store/audit-events.ts";
import { addOrganization } from "../tenants.ts";

/** Creates an organisation. Its own audit chain begins with that fact. */
export function createOrganization(
  parts: AuthParts,
): Handler<typeof OrganizationService.method.createOrganization> {
  return async (request, context) => {
    const nowMs = parts.clock.nowMs();
    const caller = callerOrg(context);
    const orgId = freshId("org", nowMs);
    const displayName = plainText(
      "organization.display_name",
      request.organization?.displayName ?? "",
    );
    const name = organizationName(orgId);
    const answer = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, { org: caller, project: "all" });
      return once(
        tx,
        {
          org: caller,
          method: context.method,
          requestId: request.requestId,
          request: { schema: CreateOrganizationRequestSchema, message: request },
          response: {
            schema: OrganizationSchema,
            message: { name, displayName, createTime: timestampFromMs(nowMs) },
          },
          nowMs,
        },
        async () => {
          await withTenant(tx, { org: orgId, project: "all" });
          await addOrganization(tx, { orgId, displayName, createdMs: nowMs }, context.traceparent);
          await appendAudit(tx, orgId, [factOf(context, { nowMs, resource: name })]);
        },
      );
    });
    parts.wakeRelay();
    return answer;
  };
}
