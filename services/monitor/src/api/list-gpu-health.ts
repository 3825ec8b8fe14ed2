import type { MonitorService } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { NodeId } from "@fastgpu/domain/ids";
import type { Handler } from "@fastgpu/rpc/handlers";
import { gpuHealth } from "../health/gpu-health.ts";
import type { Monitor } from "../monitor.ts";
import { healthMessage } from "./messages.ts";

/** The newest sample of each GPU and the health drawn from it, by node and index. */
export function listGpuHealth(
  monitor: Monitor,
): Handler<typeof MonitorService.method.listGpuHealth> {
  return (request) => {
    const nodes = monitor.fleet.nodes(parentNode(request.parent));
    const at = { nowMs: monitor.clock.nowMs(), limits: monitor.limits };
    const gpus = nodes.flatMap((node) =>
      node.gpus.map((gpu) => healthMessage(node.node, gpu, gpuHealth(node, gpu, at))),
    );
    return Promise.resolve({ gpus });
  };
}

function parentNode(parent: string): NodeId | undefined {
  if (parent === "" || parent === "nodes/-") return undefined;
  const node = parent.startsWith("nodes/")
    ? parseId("node", parent.slice("nodes/".length))
    : undefined;
  if (node === undefined) throw Fault.invalid("parent", "must be nodes/{node}, nodes/- or empty");
  return node;
}
