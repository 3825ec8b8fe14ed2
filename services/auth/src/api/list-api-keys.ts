import type { ApiKeyService } from "@fastgpu/contracts/fastgpu/auth/v1/auth_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import { tenantOf } from "../caller.ts";
import { orgOfName } from "../names.ts";
import type { AuthParts } from "../parts.ts";
import { listApiKeys as read } from "../store/api-keys.ts";
import { apiKeyMessage } from "./messages.ts";

/** Lists the keys of an organisation, oldest first, without secrets. */
export function listApiKeys(parts: AuthParts): Handler<typeof ApiKeyService.method.listApiKeys> {
  return async (request, context) => {
    const orgId = orgOfName(request.parent);
    const query = [context.method, orgId];
    const size = pageSize(request.pageSize);
    const cursor = parts.pageTokens.read(query, request.pageToken);
    const after = cursor === undefined ? undefined : parseId("key", cursor);
    const rows = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, { orgId, after, limit: size + 1 });
    });
    const page = cutPage(rows, {
      size,
      tokens: parts.pageTokens,
      query,
      cursorOf: (row) => row.keyId,
    });
    return { apiKeys: page.rows.map(apiKeyMessage), nextPageToken: page.nextPageToken };
  };
}
