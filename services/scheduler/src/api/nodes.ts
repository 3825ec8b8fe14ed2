import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { NodeSchema, type Node } from "@fastgpu/contracts/fastgpu/scheduler/v1/node_service_pb";
import type { Querier } from "@fastgpu/postgres/pool";
import { readLiveAttemptsOf, type StoredAttempt } from "../store/attempts.ts";
import { readGpusOf, type StoredGpu, type StoredNode } from "../store/nodes.ts";
import { nodeStateToWire } from "./wire-states.ts";

/** Nodes as clients see them, with what of them is leased. */
export async function describeNodes(db: Querier, nodes: readonly StoredNode[]): Promise<Node[]> {
  const ids = nodes.map((node) => node.id);
  const attempts = Map.groupBy(await readLiveAttemptsOf(db, ids), (attempt) => attempt.node);
  const gpus = Map.groupBy(await readGpusOf(db, ids), (gpu) => gpu.node);
  return nodes.map((node) => toWire(node, attempts.get(node.id) ?? [], gpus.get(node.id) ?? []));
}

function toWire(
  node: StoredNode,
  attempts: readonly StoredAttempt[],
  gpus: readonly StoredGpu[],
): Node {
  const holding = attempts.filter((attempt) => attempt.goneMs === undefined);
  const sum = (of: (attempt: StoredAttempt) => number): bigint =>
    BigInt(holding.reduce((total, attempt) => total + of(attempt), 0));
  const present = gpus.filter((gpu) => gpu.present);
  return create(NodeSchema, {
    name: `nodes/${node.id}`,
    displayName: node.displayName,
    state: nodeStateToWire(node.state),
    cpuMillis: BigInt(node.cpuMillis),
    cpuMillisLeased: sum((attempt) => attempt.cpuMillis),
    memoryMib: BigInt(node.memoryMib),
    memoryMibLeased: sum((attempt) => attempt.memoryMib),
    diskMib: BigInt(node.diskMib),
    gpuCount: present.length,
    gpusLeased: present.filter((gpu) => gpu.state === "LEASED").length,
    runtimes: [...node.runtimes],
    workerVersion: node.workerVersion,
    lastSeenTime: timestampFromMs(node.lastSeenMs),
    leaseEndTime: timestampFromMs(node.leaseUntilMs),
    liveAttempts: attempts.length,
    topology: { ...node.topology },
  });
}
