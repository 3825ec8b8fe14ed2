import { milliOfDemand } from "../gpu-part.ts";
import type { PlanState, PlanTask } from "../plan.ts";
import { attemptsOf } from "../planning/crew.ts";
import { Expectations } from "../planning/expectations.ts";
import { createLine, scoreIn, type Job, type Line } from "../planning/line.ts";
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
  readonly priorities: Int32Array;
  /** Scores without the share term. */
  readonly scoresMd: Float64Array;
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
    priorities: Int32Array.from(order, (at) => priority[at]!),
    scoresMd: Float64Array.from(order, (at) => base[at]!),
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

/** A task that is looked at as if it stood in line, and takes nothing. */
export interface Ghost {
  readonly task: PlanTask;
  readonly leaf: number;
  readonly milli: number;
  readonly scoreMd: number;
  /** Its place in line: between two others. */
  readonly place: number;
  /** Runs that follow one another on a lease. */
  readonly turns: number;
}

/** A task of the line as a ghost in its own place. */
export function ghostOf(of: RoughLine, { id }: PlanTask): Ghost | undefined {
  const at = of.jobs.findIndex(({ task }) => task.id === id);
  const job = of.jobs[at];
  if (job === undefined) return undefined;
  const [leaf, scoreMd, turns] = [of.leaves[at]!, of.scoresMd[at]!, of.turns[at]!];
  return { task: job.task, milli: job.milli, leaf, scoreMd, place: at, turns };
}

/**
 * A changed task as a ghost where it would stand in line behind its like; undefined: nothing of its owner waits, so that it
 * is not known how the queue stands.
 */
export function ghostWith(of: RoughLine, task: PlanTask, turns: number): Ghost | undefined {
  const { line, nowMs, state } = of;
  const like = of.jobs.findIndex(
    (job) => job.task.project === task.project && job.task.user === task.user,
  );
  if (like < 0) return undefined;
  const leaf = of.leaves[like]!;
  const rankMs = state.ranks?.find(({ id }) => id === task.id)?.rankMs;
  const scoreMd = scoreIn(line, task, { leaf, now: nowMs, rankMs });
  let [low, high] = [0, of.jobs.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const priority = of.priorities[middle]!;
    const before =
      priority > task.priority || (priority === task.priority && of.scoresMd[middle]! <= scoreMd);
    if (before) low = middle + 1;
    else high = middle;
  }
  const { demand, replicas } = task;
  const milli = line.unit.milliOf(milliOfDemand(demand) * replicas, demand.cpuMillis * replicas);
  return { task, leaf, milli, scoreMd, place: low - 0.5, turns };
}
