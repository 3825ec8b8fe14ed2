import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { QueueSchema, type Queue } from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { CallContext } from "@fastgpu/rpc/context";
import type { HeldGpus, QueueOwner, StoredQueue } from "../store/queues.ts";

/** Whose queue a resource name is of; the interceptor has checked its organisation and project. */
export function ownerOf(name: string, context: CallContext): QueueOwner {
  const org = parseId("org", context.scope.org ?? "");
  const project = parseId("proj", context.scope.project ?? "");
  if (org === undefined || (project === undefined && name.startsWith("projects/"))) {
    throw Fault.notFound(name, "`fastgpu queue list` shows the queues");
  }
  const user = /^projects\/[^/]+\/users\/([^/]+)\/queue$/.exec(name)?.[1];
  if (user !== undefined && (user.length > 128 || !/^[\x21-\x7e]+$/.test(user))) {
    throw Fault.invalid("name", "must name a user as the audit log does, for example key-01j…");
  }
  return { org, project, user };
}

/** A queue as clients see it. */
export function queueMessage(queue: StoredQueue, held: HeldGpus | undefined): Queue {
  const { org, project, user, weight, guaranteedGpus, limitGpus, updatedMs } = queue;
  const parent = project === undefined ? `organizations/${org}` : `projects/${project}`;
  return create(QueueSchema, {
    name: user === undefined ? `${parent}/queue` : `${parent}/users/${user}/queue`,
    weight,
    guaranteedGpus,
    heldGpus: held?.total ?? 0,
    models: Object.entries(queue.models)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([model, share]) => ({
        model,
        guaranteedGpus: share.guaranteedGpus,
        heldGpus: held?.models[model] ?? 0,
        ...(share.limitGpus === undefined ? {} : { limitGpus: share.limitGpus }),
      })),
    ...(limitGpus === undefined ? {} : { limitGpus }),
    ...(updatedMs === undefined ? {} : { updateTime: timestampFromMs(updatedMs) }),
  });
}
