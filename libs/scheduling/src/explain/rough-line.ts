import { milliOfDemand } from "../gpu-part.ts";
import type { PlanState, PlanTask } from "../plan.ts";
import { attemptsOf } from "../planning/crew.ts";
import { Expectations } from "../planning/expectations.ts";
import { createLine, type Job, type Line } from "../planning/line.ts";
import type { SchedulingPolicy } from "../scheduling-policy.ts";
import { NodeKinds, type Widths } from "./slots.ts";

/** Tasks of one queue and size: as long as they are alike in that, the order of the line is theirs. */
export interface Strand {
  readonly leaf: number;
  readonly milli: number;
  /** Places in line, ascending. */
  readonly places: Int32Array;
}

/** Everything that waits, once for each lease of an array: queue by queue, each in its own order. */
export interface RoughLine {
  readonly state: PlanState;
  readonly policy: SchedulingPolicy;
  readonly nowMs: number;
  readonly line: Line;
  /** By place in line, as all columns below. */
  readonly jobs: readonly Job[];
  readonly leaves: Int32Array;
  /** GPUs of all members. */
  readonly gpus: Int32Array;
  /** Runs that follow one another on a lease. */
  readonly turns: Int32Array;
  /** Numbers of classes: tasks of one find room at the same times. */
  readonly classes: Int32Array;
  readonly classIds: ReadonlyMap<string, number>;
  /** By class: what a member counts as. */
  readonly widths: readonly Widths[];
  readonly kinds: NodeKinds;
  readonly strands: readonly Strand[];
  readonly strandOf: Int32Array;
  /** By leaf: the least score of its jobs without the share term. */
  readonly baseMd: Float64Array;
  readonly leavesOf: ReadonlyMap<number, readonly number[]>;
}

/** GPUs of all members of a task: parts count together, and then as whole ones. */
export const gpusOf = ({ demand, replicas }: PlanTask): number =>
  Math.ceil((milliOfDemand(demand) * replicas) / 1000);

/** The line of a state. */
export function roughLine(of: {
  readonly state: PlanState;
  readonly policy: SchedulingPolicy;
  readonly nowMs: number;
}): RoughLine {
  const { state, policy, nowMs } = of;
  const line = createLine({
    ...{ state, policy, attempts: attemptsOf(state.nodes), ready: state.tasks, now: nowMs },
    // The order does not go by run times.
    expectations: new Expectations([]),
  });
  const { queue } = line;
  const unordered = [...line.jobs];
  const base = Float64Array.from(unordered, ([slot]) => queue.baseScoreMd(slot, nowMs));
  const priority = Int32Array.from(unordered, ([, { task }]) => task.priority);
  // The order of the line is that of their submits: where all else is equal it stays.
  const order = Int32Array.from(unordered.keys()).sort(
    (a, b) => priority[b]! - priority[a]! || base[a]! - base[b]! || a - b,
  );
  const jobs = Array.from(order, (at) => unordered[at]![1]);
  const leaves = Int32Array.from(order, (at) => queue.jobs.leaf[unordered[at]![0]]!);
  const baseMd = new Float64Array(queue.tree.nodes.length).fill(Infinity);
  for (const [at, leaf] of leaves.entries()) {
    baseMd[leaf] = Math.min(baseMd[leaf]!, base[order[at]!]!);
  }
  return {
    ...{ state, policy, nowMs, line, jobs, leaves, baseMd },
    gpus: Int32Array.from(jobs, ({ task }) => gpusOf(task)),
    turns: Int32Array.from(jobs, ({ task }) => turnsOf(line, task)),
    ...classesOf(state, jobs),
    ...strandsOf(jobs, leaves),
    leavesOf: Map.groupBy(new Set(leaves), (leaf) => queue.tree.rootOf(leaf)),
  };
}

function turnsOf(line: Line, { id, array }: PlanTask): number {
  return array === undefined ? 1 : Math.ceil(array.pending / line.slots.get(id)!.length);
}

/** The class of a task whose members count as so many GPUs on each kind of node. */
export const classOf = ({ replicas, topology }: PlanTask, widths: Widths): string =>
  `${widths.join()} ${replicas} ${topology.within} ${topology.spreadOver}`;

function classesOf(
  { nodes }: PlanState,
  jobs: readonly Job[],
): Pick<RoughLine, "classes" | "classIds" | "kinds" | "widths"> {
  const kinds = new NodeKinds(nodes);
  const widths: Widths[] = [];
  const classIds = new Map<string, number>();
  // What is of one kind to a plan is of one class here.
  const byKind: number[] = [];
  const classes = Int32Array.from(jobs, ({ kind, task }) => {
    let known = byKind[kind];
    if (known === undefined) {
      const own = kinds.widthsOf(task.demand);
      const name = classOf(task, own);
      byKind[kind] = known = classIds.get(name) ?? widths.push(own) - 1;
      classIds.set(name, known);
    }
    return known;
  });
  return { classes, classIds, kinds, widths };
}

function strandsOf(
  jobs: readonly Job[],
  leaves: Int32Array,
): Pick<RoughLine, "strands" | "strandOf"> {
  const strandOf = new Int32Array(jobs.length);
  const places: number[][] = [];
  const byLeaf: Map<number, number>[] = [];
  for (const [at, { milli }] of jobs.entries()) {
    const ofLeaf = (byLeaf[leaves[at]!] ??= new Map());
    let strand = ofLeaf.get(milli);
    if (strand === undefined) ofLeaf.set(milli, (strand = places.push([]) - 1));
    strandOf[at] = strand;
    places[strand]!.push(at);
  }
  const strands = places.map((each) => {
    const first = each[0]!;
    return { leaf: leaves[first]!, milli: jobs[first]!.milli, places: Int32Array.from(each) };
  });
  return { strands, strandOf };
}
