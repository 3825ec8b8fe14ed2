import type { GetNodeRequest, Node } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Scheduler } from "../scheduler.ts";
import { readNodes } from "../store/nodes.ts";
import { nodeOf } from "./names.ts";
import { describeNodes } from "./nodes.ts";

/** Reads one node. */
export async function getNode(s: Scheduler, request: GetNodeRequest): Promise<Node> {
  const [node] = await describeNodes(s.core, await readNodes(s.core, [nodeOf(request.name)]));
  if (node === undefined) throw Fault.notFound(request.name, "`fastgpu node list` shows the nodes");
  return node;
}
