import type { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { admitWorker, requireReadable } from "../admit-worker.ts";
import { download } from "../download.ts";
import type { StorageParts } from "../parts.ts";

/** Streams an input to the worker that runs the task. */
export function fetchArtifact(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.fetchArtifact> {
  return async function* fetch({ name, offset }, context) {
    const admitted = await admitWorker(parts, context, name);
    await requireReadable(parts, admitted, name);
    yield* download(parts, { tenant: admitted.tenant, name, offset });
  };
}
