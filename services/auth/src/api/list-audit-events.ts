import type { AuditService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import { tenantOf } from "../caller.ts";
import { orgOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { listAuditEvents as read } from "../store/audit-events.ts";
import { auditEventMessage } from "./messages.ts";

/** Lists the audit chain of an organisation, oldest first: all of it, so that its hashes can be checked. */
export function listAuditEvents(
  parts: AuthParts,
): Handler<typeof AuditService.method.listAuditEvents> {
  return async (request, context) => {
    const org = orgOfName(request.parent);
    const query = [context.method, org];
    const size = pageSize(request.pageSize);
    const cursor = parts.pageTokens.read(query, request.pageToken);
    const rows = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, { org, afterSeq: Number(cursor ?? 0), limit: size + 1 });
    });
    const page = cutPage(rows, {
      size,
      tokens: parts.pageTokens,
      query,
      cursorOf: (row) => String(row.seq),
    });
    return { auditEvents: page.rows.map(auditEventMessage), nextPageToken: page.nextPageToken };
  };
}
