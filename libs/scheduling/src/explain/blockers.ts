import type { BlockReason } from "../placement/checks.ts";
import type { FitReport } from "../placement/explain.ts";
import type { PlanNode, PlanTask, Rng } from "../plan.ts";
import { emptyFleet } from "../planning/fleet.ts";

/** A check that nodes fail: those of the placement engine, and two of the cluster's own. */
export type BlockCheck =
  | BlockReason
  /** The node does not run containers, or processes. */
  | "runtime"
  /** A GPU that would do failed this very task before. */
  | "gpu_excluded"
  /** Enough GPUs of the models named, but not of one model: an attempt never mixes them. */
  | "gpu_model_mixed";

/** One check with the nodes that it stops. */
export interface TaskBlocker {
  readonly check: BlockCheck;
  /** Nodes that fail it, whatever else they fail. */
  readonly nodes: number;
  /** Nodes that fail only this one. */
  readonly nodesOtherwiseFit: number;
}

/** Where a task stands with each node. */
export interface TaskFit {
  readonly nodes: number;
  readonly fitting: number;
  /** Most nodes first. */
  readonly blockers: readonly TaskBlocker[];
}

/** Greatest number of GPUs that the placement engine takes on one node. */
const maxGpus = 16;

/** Runs every check on every node, for a task. Pure: the nodes are put into an engine of their own. */
export function blockersOf(task: PlanTask, nodes: readonly PlanNode[], rng: Rng): TaskFit {
  const { runtime } = task.demand;
  const [run, other] = [true, false].map((runs) =>
    nodes.filter((node) => node.runtimes.includes(runtime) === runs),
  ) as [PlanNode[], PlanNode[]];
  const free = reportOf(task, run, rng);
  const wrong = reportOf(task, other, rng);
  const counts = new Map<BlockCheck, TaskBlocker>();
  const add = (check: BlockCheck, count: number, alone: number): void => {
    if (count === 0) return;
    const known = counts.get(check);
    counts.set(check, {
      check,
      nodes: count + (known?.nodes ?? 0),
      nodesOtherwiseFit: alone + (known?.nodesOtherwiseFit ?? 0),
    });
  };
  for (const each of free.blockers) add(each.reason, each.nodes, each.nodesOtherwiseFit);
  for (const each of wrong.blockers) add(each.reason, each.nodes, 0);
  add("runtime", other.length, wrong.fitting);
  const excluded = new Set<string>(task.excludedGpus);
  const withoutExcluded = run.map((node) => ({
    ...node,
    gpus: node.gpus.map((gpu) => (excluded.has(gpu.id) ? { ...gpu, free: false } : gpu)),
  }));
  const left = excluded.size === 0 ? free.fitting : reportOf(task, withoutExcluded, rng).fitting;
  add("gpu_excluded", free.fitting - left, free.fitting - left);
  const fitting = left > 0 && onlyMixed(task, withoutExcluded, rng) ? 0 : left;
  add("gpu_model_mixed", left - fitting, left - fitting);
  const blockers = [...counts.values()].sort(
    (a, b) => b.nodes - a.nodes || b.nodesOtherwiseFit - a.nodesOtherwiseFit,
  );
  return { nodes: nodes.length, fitting, blockers };
}

/** Whether no node has enough GPUs of any one of the models. */
function onlyMixed(of: Subject, nodes: readonly PlanNode[], rng: Rng): boolean {
  const { demand } = of;
  return (
    demand.gpuModels.length > 1 &&
    demand.gpuModels.every(
      (model) =>
        reportOf({ ...of, demand: { ...demand, gpuModels: [model] } }, nodes, rng).fitting === 0,
    )
  );
}

/** Whose demand is looked at. */
type Subject = Pick<PlanTask, "demand" | "org">;

function reportOf(of: Subject, nodes: readonly PlanNode[], rng: Rng): FitReport {
  const { demand } = of;
  const fleet = emptyFleet({ policy: "bestfit", rng });
  fleet.sync(nodes);
  const shape = fleet.shapeOf(of, demand.gpuModels);
  if (shape !== undefined) return fleet.free.explain(shape);
  // The engine takes no request this large: all nodes have too few, and one GPU tells what else there is.
  const rest = { ...demand, gpuCount: Math.min(1, demand.gpuCount) };
  const one =
    demand.gpuCount > maxGpus ? fleet.shapeOf({ ...of, demand: rest }, rest.gpuModels) : undefined;
  const few = { reason: "gpu_count", nodes: nodes.length, nodesOtherwiseFit: 0 } as const;
  if (one === undefined)
    return { nodes: nodes.length, fitting: 0, blockers: nodes.length > 0 ? [few] : [] };
  const { fitting, blockers } = fleet.free.explain(one);
  return {
    nodes: nodes.length,
    fitting: 0,
    blockers: [
      { ...few, nodesOtherwiseFit: fitting },
      ...blockers
        .filter(({ reason }) => reason !== "gpu_count")
        .map((blocker) => ({ ...blocker, nodesOtherwiseFit: 0 })),
    ].filter((blocker) => blocker.nodes > 0),
  };
}
