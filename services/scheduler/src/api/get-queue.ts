import type {
  GetQueueRequest,
  Queue,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import type { CallContext } from "@fastgpu/rpc/context";
import type { Scheduler } from "../scheduler.ts";
import { countHeldGpus, readQueue, unchangedQueue } from "../store/queues.ts";
import { ownerOf, queueMessage } from "./queues.ts";
import { inTenant, tenantOfOwner } from "./in-tenant.ts";

/** Reads a queue. */
export async function getQueue(
  s: Scheduler,
  request: GetQueueRequest,
  context: CallContext,
): Promise<Queue> {
  const owner = ownerOf(request.name, context);
  return inTenant(s, tenantOfOwner(owner), async (tx) => {
    const queue = (await readQueue(tx, owner)) ?? unchangedQueue(owner);
    const [held] = await countHeldGpus(tx, [owner]);
    return queueMessage(queue, held);
  });
}
