import type { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { tenantOfWorker } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { readManifest } from "./get-manifest.ts";

/** The files of a checkpoint, for the worker that resumes from it. */
export function fetchManifest(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.fetchManifest> {
  return async ({ parent, digest }) =>
    readManifest(parts, await tenantOfWorker(parts, parent), digest);
}
