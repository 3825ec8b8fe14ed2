import { EventLogService } from "@fastgpu/contracts/fastgpu/events/v1/events_pb";
import {
  ArtifactService,
  AttemptStorageService,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { service } from "@fastgpu/rpc/handlers";
import type { BoundService } from "@fastgpu/rpc/handlers";
import type { StorageParts } from "../parts.ts";
import { downloadArtifact } from "./download-artifact.ts";
import { fetchArtifact } from "./fetch-artifact.ts";
import { fetchManifest } from "./fetch-manifest.ts";
import { getArtifact } from "./get-artifact.ts";
import { getManifest } from "./get-manifest.ts";
import { getUpload } from "./get-upload.ts";
import { listArtifacts } from "./list-artifacts.ts";
import { listEvents } from "./list-events.ts";
import { putManifest } from "./put-manifest.ts";
import { storeArtifact } from "./store-artifact.ts";
import { uploadArtifact } from "./upload-artifact.ts";

/** Everything that the service serves. */
export function storageServices(parts: StorageParts): BoundService[] {
  return [
    service(ArtifactService, {
      uploadArtifact: uploadArtifact(parts),
      getUpload: getUpload(parts),
      getArtifact: getArtifact(parts),
      listArtifacts: listArtifacts(parts),
      downloadArtifact: downloadArtifact(parts),
      getManifest: getManifest(parts),
    }),
    service(AttemptStorageService, {
      storeArtifact: storeArtifact(parts),
      putManifest: putManifest(parts),
      fetchManifest: fetchManifest(parts),
      fetchArtifact: fetchArtifact(parts),
    }),
    service(EventLogService, { listEvents: listEvents(parts) }),
  ];
}
