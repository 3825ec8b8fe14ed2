import type { ArtifactService } from "@fastgpu/contracts/fastgpu/storage/v1/storage_service_pb";
import { newEvent, topics } from "@fastgpu/events/topics";
import { appendEvents } from "@fastgpu/postgres/outbox";
import type { Handler } from "@fastgpu/rpc/handlers";
import { artifactName, tenantOf } from "../names.ts";
import type { StorageParts } from "../parts.ts";
import { readHeader, receiveUpload } from "../upload.ts";
import { artifactMessage } from "./messages.ts";

/** Stores a user's file. */
export function uploadArtifact(
  parts: StorageParts,
): Handler<typeof ArtifactService.method.uploadArtifact> {
  return async (requests, context) => {
    const { header, pieces } = await readHeader(requests);
    const tenant = tenantOf(context);
    const artifact = await receiveUpload(parts, {
      tenant,
      header: { ...header, attempt: "" },
      pieces,
      onComplete: (tx, { artifactId, projectId, createdMs }) =>
        appendEvents(tx, [
          newEvent(
            topics.auditRecorded,
            {
              principal: context.principal.onBehalfOf ?? context.principal.id,
              method: context.method,
              resource: artifactName(projectId, artifactId),
              requestId: context.requestId,
            },
            {
              aggregate: artifactId,
              aggregateRevision: 1n,
              occurredMs: createdMs,
              org: tenant.org,
              project: projectId,
              traceparent: context.traceparent,
            },
          ),
        ]),
    });
    parts.wakeRelay();
    return artifactMessage(artifact);
  };
}
