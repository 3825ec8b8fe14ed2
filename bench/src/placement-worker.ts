/** Worker thread of the placement experiment: one run per message. */
import { parentPort, workerData } from "node:worker_threads";
import type { PolicyName } from "@fastgpu/scheduling/placement/engine";
import { arrivedPct, runAllocation } from "@fastgpu/simulation/openb/allocation";
import type { OpenbNode, OpenbPod } from "@fastgpu/simulation/openb/trace";
import { readNodeFile, readPodFile } from "./openb-files.ts";

/** One run to do. */
export interface PlacementJob {
  readonly pods: string;
  readonly workload: string;
  readonly policy: PolicyName;
  readonly seed: number;
}

/** One line of the result file. */
export interface PlacementLine {
  readonly workload: string;
  readonly policy: PolicyName;
  readonly seed: number;
  readonly arrivedPct: readonly number[];
  readonly allocatedPct: readonly number[];
}

/** What the worker answers to a job. */
export type PlacementReply =
  | { readonly kind: "line"; readonly line: PlacementLine }
  | { readonly kind: "failed"; readonly message: string };

const { nodes: nodeFile } = workerData as { readonly nodes: string };
let nodes: readonly OpenbNode[] | undefined;
const lists = new Map<string, readonly OpenbPod[]>();

async function runJob(job: PlacementJob): Promise<PlacementLine> {
  nodes ??= await readNodeFile(nodeFile);
  const pods = lists.get(job.pods) ?? (await readPodFile(job.pods));
  lists.set(job.pods, pods);
  const { workload, policy, seed } = job;
  // The published FGD knows the workload's classes beforehand; ours learns them from arrivals.
  const result = runAllocation({ nodes, pods, seed, policy, knownMix: policy === "fgd" });
  const allocatedPct = result.allocatedPct.map((value) => Math.round(value * 1e4) / 1e4);
  return { workload, policy, seed, arrivedPct, allocatedPct };
}

parentPort?.on("message", (job: PlacementJob) => {
  runJob(job).then(
    (line) => parentPort?.postMessage({ kind: "line", line } satisfies PlacementReply),
    (error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      parentPort?.postMessage({ kind: "failed", message } satisfies PlacementReply);
    },
  );
});
