import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { download } from "../download.ts";
import { tenantOf } from "../names.ts";
import type { StorageParts } from "../parts.ts";

/** Streams a file from an offset. */
export function downloadArtifact(
  parts: StorageParts,
): Handler<typeof ArtifactService.method.downloadArtifact> {
  return ({ name, offset }, context) =>
    download(parts, { tenant: tenantOf(context), name, offset });
}
