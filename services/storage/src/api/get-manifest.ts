import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ArtifactService,
  ManifestSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { transaction, withTenant } from "@fastgpu/postgres/transaction";
import type { Handler } from "@fastgpu/rpc/handlers";
import { tenantOf } from "../names.ts";
import type { ProjectTenant } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { getManifestFiles } from "../store/manifests.ts";
import { manifestMessage } from "./messages.ts";

/** The files of a manifest, by path. */
export function getManifest(
  parts: StorageParts,
): Handler<typeof ArtifactService.method.getManifest> {
  return ({ digest }, context) => readManifest(parts, tenantOf(context), digest);
}

/** A manifest of a tenant's project. */
export async function readManifest(
  parts: StorageParts,
  tenant: ProjectTenant,
  digest: string,
): Promise<MessageInitShape<typeof ManifestSchema>> {
  const files = await transaction(parts.db.api, async (tx) => {
    await withTenant(tx, tenant);
    return getManifestFiles(tx, tenant.project, digest);
  });
  if (files === undefined) throw Fault.notFound(`manifest ${digest}`);
  return manifestMessage(digest, files);
}
