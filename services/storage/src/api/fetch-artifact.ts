import type { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { download } from "../download.ts";
import { tenantOfWorker } from "../names.ts";
import type { StorageParts } from "../parts.ts";

/** Streams an input to the worker that runs the task. */
export function fetchArtifact(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.fetchArtifact> {
  return async function* fetch({ name, offset }) {
    yield* download(parts, { tenant: await tenantOfWorker(parts, name), name, offset });
  };
}
