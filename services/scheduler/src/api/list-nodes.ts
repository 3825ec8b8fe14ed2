import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  ListNodesRequest,
  ListNodesResponseSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { parseId } from "@fastgpu/domain/ids";
import { cutPage, pageSize } from "@fastgpu/rpc/page-token";
import type { Scheduler } from "../scheduler.ts";
import { listNodes as readPage } from "../store/nodes.ts";
import { describeNodes } from "./nodes.ts";

/** Lists nodes in order of id. */
export async function listNodes(
  s: Scheduler,
  request: ListNodesRequest,
): Promise<MessageInitShape<typeof ListNodesResponseSchema>> {
  const query = ["ListNodes"];
  const size = pageSize(request.pageSize);
  const after = parseId("node", s.pageTokens.read(query, request.pageToken) ?? "");
  const rows = await readPage(s.core, after, size + 1);
  const page = cutPage(rows, { size, tokens: s.pageTokens, query, cursorOf: (node) => node.id });
  return { nodes: await describeNodes(s.core, page.rows), nextPageToken: page.nextPageToken };
}
