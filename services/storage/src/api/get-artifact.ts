import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { parseArtifactName, tenantOf } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { getArtifact as read } from "../store/artifacts.ts";
import { artifactMessage } from "./messages.ts";

/** Reads what is known of a file. */
export function getArtifact(
  parts: StorageParts,
): Handler<typeof ArtifactService.method.getArtifact> {
  return async (request, context) => {
    const { project, artifact } = parseArtifactName(request.name);
    const found = await transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenantOf(context));
      return read(tx, project, artifact);
    });
    if (found === undefined) throw Fault.notFound(request.name);
    return artifactMessage(found);
  };
}
