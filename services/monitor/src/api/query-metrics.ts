import type { MonitorService } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId } from "@fastgpu/domain/ids";
import type { Handler } from "@fastgpu/rpc/handlers";
import type { Monitor } from "../monitor.ts";
import { sampleMessage } from "./messages.ts";

const DEFAULT_WINDOW_SECONDS = 300;

/** The short history of one GPU, oldest first. NOT_FOUND for one that was not heard of lately. */
export function queryMetrics(monitor: Monitor): Handler<typeof MonitorService.method.queryMetrics> {
  return (request) => {
    const [, nodeText = "", , gpuText = ""] = request.name.split("/");
    const node = parseId("node", nodeText);
    const gpu = parseId("gpu", gpuText);
    if (node === undefined || gpu === undefined)
      return Promise.reject(Fault.notFound(request.name));
    const windowSeconds =
      request.windowSeconds === 0 ? DEFAULT_WINDOW_SECONDS : request.windowSeconds;
    const moments = monitor.fleet.history(node, gpu, windowSeconds * 1_000);
    if (moments === undefined) return Promise.reject(Fault.notFound(request.name));
    const known = monitor.fleet.nodes(node)[0]?.gpus.find((one) => one.gpu === gpu);
    const simulated = known?.simulated ?? false;
    return Promise.resolve({ samples: moments.map((moment) => sampleMessage(moment, simulated)) });
  };
}
