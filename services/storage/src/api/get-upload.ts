import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { tenantOf } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { getArtifactOfUpload } from "../store/artifacts.ts";
import { getUpload as read } from "../store/uploads.ts";
import { artifactMessage } from "./messages.ts";

/** How far an upload has come. */
export function getUpload(parts: StorageParts): Handler<typeof ArtifactService.method.getUpload> {
  return async (request, context) => {
    const tenant = tenantOf(context);
    const { uploadId } = request;
    return transaction(parts.db.api, async (tx) => {
      await withTenant(tx, tenant);
      const upload = await read(tx, tenant.project, uploadId);
      if (upload !== undefined) return { committedBytes: BigInt(upload.committedBytes) };
      const artifact = await getArtifactOfUpload(tx, tenant.project, uploadId);
      if (artifact === undefined) {
        throw Fault.notFound(`upload ${uploadId}`, "begin it again at offset 0");
      }
      return {
        committedBytes: BigInt(artifact.sizeBytes),
        artifact: artifactMessage(artifact),
      };
    });
  };
}
