import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import { tenantOf } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { listArtifacts as read } from "../store/artifacts.ts";
import { artifactMessage } from "./messages.ts";

/** Lists the files of a project, newest first. */
export function listArtifacts(
  parts: StorageParts,
): Handler<typeof ArtifactService.method.listArtifacts> {
  return async (request, context) => {
    const tenant = tenantOf(context);
    const query = [context.method, tenant.project];
    const size = pageSize(request.pageSize);
    const cursor = parts.pageTokens.read(query, request.pageToken);
    const before = cursor === undefined ? undefined : parseId("art", cursor);
    const rows = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenant);
      return read(tx, { projectId: tenant.project, before, limit: size + 1 });
    });
    const page = cutPage(rows, {
      size,
      tokens: parts.pageTokens,
      query,
      cursorOf: (row) => row.artifactId,
    });
    return { artifacts: page.rows.map(artifactMessage), nextPageToken: page.nextPageToken };
  };
}
