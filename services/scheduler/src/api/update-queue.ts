import type {
  Queue,
  UpdateQueueRequest,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { newEvent, topics } from "@fastgpu/events/topics";
import { appendEvents, type NewEvent } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { countHeldGpus, lockQueue, storeQueue, type StoredQueue } from "../store/queues.ts";
import { ownerOf, queueMessage } from "./queues.ts";

/** Greatest weight, guarantee and limit. */
const greatestShare = 1_000_000;

/** Changes the named fields of a queue. What runs goes on; the next lease heeds the new values. */
export async function updateQueue(
  s: Scheduler,
  request: UpdateQueueRequest,
  context: CallContext,
): Promise<Queue> {
  const name = request.queue?.name ?? "";
  const owner = ownerOf(name, context);
  if (owner.project === undefined && context.principal.role !== "platform_operator") {
    const message = "an organisation's share is set by the operator of the platform";
    throw new Fault("PERMISSION_DENIED", message, {
      hint: "name a project's queue: projects/{project}/queue",
    });
  }
  const nowMs = s.clock.nowMs();
  const updated = await transaction(s.core, async (tx) => {
    const before = await lockQueue(tx, owner, nowMs);
    const after = { ...changed(before, request), updatedMs: nowMs };
    await storeQueue(tx, after, nowMs);
    await appendEvents(tx, [auditEvent(after, name, context)]);
    return queueMessage(after, await countHeldGpus(tx, owner));
  });
  s.changed({ tasks: [], nodes: [] });
  return updated;
}

/** The queue with the fields that the mask names. Throws INVALID_FIELD for one that is out of its range. */
function changed(before: StoredQueue, request: UpdateQueueRequest): StoredQueue {
  const { queue, updateMask } = request;
  const paths = new Set(updateMask?.paths ?? []);
  if (paths.size === 0) {
    throw Fault.invalid("update_mask", "must name weight, guaranteed_gpus or limit_gpus");
  }
  let after = before;
  for (const path of paths) {
    if (path === "weight") after = { ...after, weight: queue?.weight ?? 0 };
    else if (path === "guaranteed_gpus") {
      after = { ...after, guaranteedGpus: queue?.guaranteedGpus ?? 0 };
    } else if (path === "limit_gpus") after = { ...after, limitGpus: queue?.limitGpus };
    else throw Fault.invalid("update_mask", `has no field ${path} to change`);
  }
  const { weight, guaranteedGpus, limitGpus } = after;
  inRange("queue.weight", weight, 1);
  inRange("queue.guaranteed_gpus", guaranteedGpus, 0);
  if (limitGpus !== undefined) inRange("queue.limit_gpus", limitGpus, 0);
  if (limitGpus !== undefined && limitGpus < guaranteedGpus) {
    throw Fault.invalid("queue.limit_gpus", `must be at least the ${guaranteedGpus} guaranteed`);
  }
  return after;
}

function inRange(field: string, value: number, least: number): void {
  if (value < least || value > greatestShare) {
    throw Fault.invalid(field, `must be ${least} to ${greatestShare.toLocaleString("en-US")}`);
  }
}

function auditEvent(queue: StoredQueue, resource: string, context: CallContext): NewEvent {
  const { principal, method, requestId, traceparent } = context;
  const fact = { principal: principal.id, method, resource, requestId };
  return newEvent(topics.auditRecorded, fact, {
    aggregate: resource,
    aggregateRevision: BigInt(queue.revision),
    occurredMs: queue.updatedMs ?? 0,
    org: queue.org,
    ...(queue.project === undefined ? {} : { project: queue.project }),
    traceparent,
  });
}
