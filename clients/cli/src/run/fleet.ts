import { toJson } from "@bufbuild/protobuf";
import {
  type Gpu,
  GpuSchema,
  GpuStateSchema,
  type Node,
  NodeSchema,
  NodeStateSchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import { withApi } from "../api/connect.ts";
import { resourceName } from "../api/names.ts";
import { allPages } from "../api/pages.ts";
import type { CliContext, CommonOptions } from "../context.ts";
import { printOptions } from "../context.ts";
import { type View, printList, printOne } from "../output/print.ts";
import { age, enumName, isoTime, lastPart, mebibytes } from "../output/values.ts";

const cores = (millis: bigint): string => String(Number(millis) / 1000);

/** `nvlink=nv0,rack=r1` */
const topologyText = ({ topology }: Node): string =>
  Object.entries(topology)
    .map(([kind, place]) => `${kind}=${place}`)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join(",");

function nodeView(nowMs: number): View<Node> {
  return {
    columns: [
      { header: "node", value: (node) => lastPart(node.name) },
      { header: "name", value: (node) => node.displayName },
      { header: "state", value: (node) => enumName(NodeStateSchema, node.state) },
      { header: "gpus", value: (node) => `${node.gpusLeased}/${node.gpuCount}`, align: "right" },
      {
        header: "cpu",
        value: (node) => `${cores(node.cpuMillisLeased)}/${cores(node.cpuMillis)}`,
        align: "right",
      },
      {
        header: "memory",
        value: (node) => `${mebibytes(node.memoryMibLeased)}/${mebibytes(node.memoryMib)}`,
        align: "right",
      },
      { header: "attempts", value: (node) => String(node.liveAttempts), align: "right" },
      { header: "runtimes", value: (node) => node.runtimes.join(",") },
      { header: "seen", value: (node) => age(node.lastSeenTime, nowMs), align: "right" },
      { header: "version", value: (node) => node.workerVersion, wide: true },
      { header: "topology", value: topologyText, wide: true },
      { header: "lease until", value: (node) => isoTime(node.leaseEndTime), wide: true },
    ],
    id: (node) => lastPart(node.name),
    json: (node) => toJson(NodeSchema, node),
  };
}

const gpuView: View<Gpu> = {
  columns: [
    { header: "gpu", value: (gpu) => lastPart(gpu.name) },
    { header: "node", value: (gpu) => gpu.name.split("/")[1] ?? "" },
    { header: "index", value: (gpu) => String(gpu.index), align: "right" },
    { header: "model", value: (gpu) => `${gpu.model}${gpu.simulated ? " (simulated)" : ""}` },
    { header: "memory", value: (gpu) => mebibytes(gpu.memoryMib), align: "right" },
    { header: "state", value: (gpu) => enumName(GpuStateSchema, gpu.state) },
    { header: "task", value: (gpu) => lastPart(gpu.task) },
    { header: "uuid", value: (gpu) => gpu.uuid, wide: true },
  ],
  id: (gpu) => lastPart(gpu.name),
  json: (gpu) => toJson(GpuSchema, gpu),
};

/** `node list` */
export async function listNodes(context: CliContext, options: CommonOptions): Promise<void> {
  await withApi(context, options, async (api) => {
    const items = await allPages(
      (page) => api.nodes.listNodes(page),
      ({ nodes }) => nodes,
    );
    await printList(
      printOptions(context, options),
      nodeView(context.nowMs()),
      items,
      "no worker has joined yet",
    );
  });
}

/** `node get NODE` */
export async function getNode(
  context: CliContext,
  options: CommonOptions,
  typed: string,
): Promise<void> {
  await withApi(context, options, async (api) => {
    const node = await api.nodes.getNode({ name: resourceName("nodes", typed, "") });
    await printOne(printOptions(context, options), nodeView(context.nowMs()), node);
  });
}

/** `gpu list` */
export async function listGpus(
  context: CliContext,
  options: CommonOptions & { node?: string },
): Promise<void> {
  await withApi(context, options, async (api) => {
    const parent = options.node === undefined ? "" : resourceName("nodes", options.node, "");
    const items = await allPages(
      (page) => api.nodes.listGpus({ parent, ...page }),
      ({ gpus }) => gpus,
    );
    await printList(
      printOptions(context, options),
      gpuView,
      items,
      "no GPUs; fastgpu node list shows the nodes",
    );
  });
}
