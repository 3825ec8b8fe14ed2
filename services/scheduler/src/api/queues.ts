import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { QueueSchema, type Queue } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import type { QueueOwner, StoredQueue } from "../store/queues.ts";

/** Whose queue `projects/{project}/queue` or `organizations/{organization}/queue` is; the interceptor has checked it. */
export function ownerOf(name: string, context: CallContext): QueueOwner {
  const org = parseId("org", context.scope.org ?? "");
  const project = parseId("proj", context.scope.project ?? "");
  if (org === undefined || (project === undefined && name.startsWith("projects/"))) {
    throw Fault.notFound(name, "`fastgpu queue list` shows the queues");
  }
  return { org, project };
}

/** A queue as clients see it. */
export function queueMessage(queue: StoredQueue, heldGpus: number): Queue {
  const { org, project, weight, guaranteedGpus, limitGpus, updatedMs } = queue;
  return create(QueueSchema, {
    name: project === undefined ? `organizations/${org}/queue` : `projects/${project}/queue`,
    weight,
    guaranteedGpus,
    heldGpus,
    ...(limitGpus === undefined ? {} : { limitGpus }),
    ...(updatedMs === undefined ? {} : { updateTime: timestampFromMs(updatedMs) }),
  });
}
