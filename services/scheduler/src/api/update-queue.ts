import type {
  ModelShare,
  Queue,
  UpdateQueueRequest,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { plainText } from "@fastgpu/domain/text";
import { newEvent, topics } from "@fastgpu/events/topics";
import { appendEvents, type NewEvent } from "@fastgpu/postgres/outbox";
import { transaction } from "@fastgpu/postgres/transaction";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { countHeldGpus, lockQueue, storeQueue, type StoredQueue } from "../store/queues.ts";
import { ownerOf, queueMessage } from "./queues.ts";
import { auditFact } from "../transition/events.ts";

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
    const [held] = await countHeldGpus(tx, [owner]);
    return queueMessage(after, held);
  });
  s.changed({ tasks: [], nodes: [] });
  return updated;
}

/** The queue with the fields that the mask names. Throws INVALID_FIELD for one that is out of its range. */
function changed(before: StoredQueue, request: UpdateQueueRequest): StoredQueue {
  const { queue, updateMask } = request;
  const paths = new Set(updateMask?.paths ?? []);
  if (paths.size === 0) {
    throw Fault.invalid("update_mask", "must name weight, guaranteed_gpus, limit_gpus or models");
  }
  let after = before;
  for (const path of paths) {
    if (path === "weight") after = { ...after, weight: queue?.weight ?? 0 };
    else if (path === "guaranteed_gpus") {
      after = { ...after, guaranteedGpus: queue?.guaranteedGpus ?? 0 };
    } else if (path === "limit_gpus") after = { ...after, limitGpus: queue?.limitGpus };
    else if (path === "models") after = { ...after, models: modelsOf(queue?.models ?? []) };
    else throw Fault.invalid("update_mask", `has no field ${path} to change`);
  }
  const { weight, guaranteedGpus, limitGpus } = after;
  inRange("queue.weight", weight, 1);
  inRange("queue.guaranteed_gpus", guaranteedGpus, 0);
  if (limitGpus !== undefined) inRange("queue.limit_gpus", limitGpus, 0);
  if (limitGpus !== undefined && limitGpus < guaranteedGpus) {
    throw Fault.invalid("queue.limit_gpus", `must be at least the ${guaranteedGpus} guaranteed`);
  }
  checkModels(after);
  return after;
}

function modelsOf(shares: readonly ModelShare[]): StoredQueue["models"] {
  const models = new Map<string, StoredQueue["models"][string]>();
  for (const [at, { model, guaranteedGpus, limitGpus }] of shares.entries()) {
    const field = `queue.models[${at}]`;
    if (models.has(model)) throw Fault.invalid(`${field}.model`, "is named twice");
    plainText(`${field}.model`, model);
    inRange(`${field}.guaranteed_gpus`, guaranteedGpus, 0);
    if (limitGpus !== undefined) inRange(`${field}.limit_gpus`, limitGpus, 0);
    if (limitGpus !== undefined && limitGpus < guaranteedGpus) {
      throw Fault.invalid(
        `${field}.limit_gpus`,
        `must be at least the ${guaranteedGpus} guaranteed`,
      );
    }
    models.set(model, { guaranteedGpus, limitGpus });
  }
  return Object.fromEntries(models);
}

/** What is promised of single models must not pass the limit over all. */
function checkModels({ models, limitGpus }: StoredQueue): void {
  const promised = Object.values(models).reduce((sum, share) => sum + share.guaranteedGpus, 0);
  if (limitGpus === undefined || promised <= limitGpus) return;
  const description = `guarantees ${promised} GPUs, more than the queue's limit of ${limitGpus}`;
  throw Fault.invalid("queue.models", description);
}

function inRange(field: string, value: number, least: number): void {
  if (value < least || value > greatestShare) {
    throw Fault.invalid(field, `must be ${least} to ${greatestShare.toLocaleString("en-US")}`);
  }
}

function auditEvent(queue: StoredQueue, resource: string, context: CallContext): NewEvent {
  return newEvent(topics.auditRecorded, auditFact(context, resource), {
    aggregate: resource,
    aggregateRevision: BigInt(queue.revision),
    occurredMs: queue.updatedMs ?? 0,
    org: queue.org,
    ...(queue.project === undefined ? {} : { project: queue.project }),
    traceparent: context.traceparent,
  });
}
