import type { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { admitWorker, requireCheckpoint } from "../admit-worker.ts";
import type { StorageParts } from "../parts.ts";
import { readManifest } from "./get-manifest.ts";

/** The files of a checkpoint, for the worker that resumes from it. */
export function fetchManifest(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.fetchManifest> {
  return async ({ parent, digest }, context) => {
    const admitted = await admitWorker(parts, context, parent);
    await requireCheckpoint(parts, admitted, digest);
    return readManifest(parts, admitted.tenant, digest);
  };
}
