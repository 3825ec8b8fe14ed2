import type { AttemptStorageService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { Handler } from "@fastgpu/rpc/handlers";
import { admitWorker, requireAttempt } from "../admit-worker.ts";
import type { StorageParts } from "../parts.ts";
import { readHeader, receiveUpload } from "../upload.ts";
import { artifactMessage } from "./messages.ts";

/** Stores what an attempt leaves. It becomes a result only when the scheduler accepts the attempt's end. */
export function storeArtifact(
  parts: StorageParts,
): Handler<typeof AttemptStorageService.method.storeArtifact> {
  return async (requests, context) => {
    const { header, pieces } = await readHeader(requests);
    const admitted = await admitWorker(parts, context, header.parent);
    requireAttempt(admitted, header.attempt);
    const { tenant } = admitted;
    const onComplete = (): Promise<void> => Promise.resolve();
    return artifactMessage(await receiveUpload(parts, { tenant, header, pieces, onComplete }));
  };
}
