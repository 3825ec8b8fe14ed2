import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ListQueuesRequest,
  ListQueuesResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/queue_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { countHeldGpus, cursorOfQueue, listQueues as readPage } from "../store/queues.ts";
import { queueMessage } from "./queues.ts";
import { inTenant } from "./in-tenant.ts";

/** Lists the queues of an organisation that were ever changed. */
export async function listQueues(
  s: Scheduler,
  request: ListQueuesRequest,
): Promise<MessageInitShape<typeof ListQueuesResponseSchema>> {
  const org = parseId("org", request.parent.split("/")[1] ?? "");
  if (org === undefined) throw Fault.notFound(request.parent);
  const query = ["ListQueues", org];
  const size = pageSize(request.pageSize);
  const after = s.pageTokens.read(query, request.pageToken);
  return inTenant(s, { org, project: "all" }, async (tx) => {
    const rows = await readPage(tx, org, { after, limit: size + 1 });
    const tokens = s.pageTokens;
    const page = cutPage(rows, { size, tokens, query, cursorOf: cursorOfQueue });
    const held = await countHeldGpus(tx, page.rows);
    const queues = page.rows.map((row, at) => queueMessage(row, held[at]));
    return { queues, nextPageToken: page.nextPageToken };
  });
}
