import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  ArtifactSchema,
  ManifestSchema,
} from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import type { ManifestFile } from "../manifest.ts";
import { artifactName } from "../names.ts";
import type { Artifact } from "../store/artifacts.ts";

/** A file as the API shows it. */
export function artifactMessage(artifact: Artifact): MessageInitShape<typeof ArtifactSchema> {
  return {
    name: artifactName(artifact.projectId, artifact.artifactId),
    displayName: artifact.displayName,
    sizeBytes: BigInt(artifact.sizeBytes),
    sha256: artifact.sha256,
    createTime: timestampFromMs(artifact.createdMs),
    attempt: artifact.attempt,
  };
}

/** A manifest as the API shows it. */
export function manifestMessage(
  digest: string,
  files: readonly ManifestFile[],
): MessageInitShape<typeof ManifestSchema> {
  return {
    digest,
    files: files.map((file) => ({ ...file, sizeBytes: BigInt(file.sizeBytes) })),
  };
}
