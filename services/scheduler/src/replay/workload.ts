import type { FleetFault } from "@fastgpu/simulation/fleet/faults";
import type { FleetNode } from "@fastgpu/simulation/fleet/inventory";
import {
  byArrival,
  plainDemand,
  plainFleetTask,
  type FleetTask,
  type FleetWorkload,
} from "@fastgpu/simulation/fleet/workload";
import type { Observed, ObservedAttempt, ObservedNode, ObservedTask } from "./observed.ts";

/** A recording as a scenario of the fleet simulator. */
export interface RecordedScenario {
  readonly workload: FleetWorkload;
  readonly nodes: readonly FleetNode[];
  /** What the fleet went through: nodes that were lost, drained, or came later. */
  readonly faults: readonly FleetFault[];
  /** From lease to running, the median of the recording; undefined where none was seen. In milliseconds. */
  readonly startMs: number | undefined;
}

/**
 * The load and the fleet of a recording, with the run times that tasks really had. What a recording cannot know is
 * filled in, and said in the workload's notes: how long a task would have run that never came to its end.
 */
export function scenarioOf(observed: Observed): RecordedScenario {
  const nodes = [...observed.nodes.values()];
  const told = new Notes();
  const usual = median(
    [...observed.tasks.values()].flatMap((task) => {
      const run = runOf(task, observed);
      return run?.ended === true ? [run.runMs] : [];
    }),
  );
  const tasks = [...observed.tasks.values()].flatMap((task) => {
    const made = taskOf(task, { observed, usualMs: usual ?? 3_600_000, told });
    return made === undefined ? [] : [made];
  });
  return {
    nodes: nodes.map(({ node }) => nodeOf(node, told)),
    faults: nodes.flatMap((node, at) => faultsOf(node, { at, endMs: observed.endMs, told })),
    startMs: median(
      [...observed.tasks.values()].flatMap(({ attempts }) =>
        attempts.flatMap(({ runningSinceMs, lease }) =>
          runningSinceMs === undefined ? [] : [Math.max(1, runningSinceMs - lease.heldSinceMs)],
        ),
      ),
    ),
    workload: {
      name: "recording",
      tasks: byArrival(tasks),
      queues: observed.state?.queues ?? [],
      reservations: Array.from(observed.reservations.values(), ({ id, ...rest }) => ({
        name: id,
        ...rest,
      })),
      notes: told.list(),
    },
  };
}

/** Counts what had to be filled in, for the reader of a report. */
class Notes {
  private readonly counts = new Map<string, number>();

  add(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  list(): string[] {
    return [...this.counts].map(([what, count]) => `${count} ${what}.`);
  }
}

interface Run {
  /** Useful run time, of an array that of one element. */
  readonly runMs: number;
  /** Whether the recording saw its end. */
  readonly ended: boolean;
}

/** How long a task really ran; undefined where it never did. */
function runOf(task: ObservedTask, observed: Observed): Run | undefined {
  const { attempts, spec } = task;
  const { endMs } = observed;
  const waits = observed.waits(task.id);
  const last = attempts.at(-1);
  if (last === undefined) {
    if (task.placements === 0) return undefined;
    // So short that no state shows it running.
    return { runMs: 1, ended: !waits };
  }
  const ended = last.goneMs !== undefined && !waits;
  if (spec?.array !== undefined) {
    const total = attempts.reduce((sum, attempt) => sum + ranMs(attempt, endMs), 0);
    return { runMs: Math.max(1, Math.round(total / Math.max(1, task.leasedElements))), ended };
  }
  const earlier = attempts.slice(0, -1).reduce((sum, each) => sum + keptMs(each, endMs), 0);
  return { runMs: Math.max(1, earlier + ranMs(last, endMs)), ended };
}

const ranMs = (attempt: ObservedAttempt, endMs: number): number =>
  Math.max(0, (attempt.goneMs ?? endMs) - (attempt.runningSinceMs ?? attempt.goneMs ?? endMs));

/** What an attempt that was not the last brought the task: what it saved, or all where it could save when stopped. */
function keptMs(attempt: ObservedAttempt, endMs: number): number {
  const { runningSinceMs, savedMs, lease } = attempt;
  if (!lease.preemptible || runningSinceMs === undefined) return 0;
  return savedMs === undefined ? ranMs(attempt, endMs) : Math.max(0, savedMs - runningSinceMs);
}

function taskOf(
  task: ObservedTask,
  of: { observed: Observed; usualMs: number; told: Notes },
): FleetTask | undefined {
  const { observed, usualMs, told } = of;
  const run = runOf(task, observed);
  const [first] = task.attempts;
  if (run === undefined && !observed.waits(task.id)) {
    told.add("tasks were cancelled before they ran, and are left out");
    return undefined;
  }
  if (run === undefined) {
    told.add("tasks still waited at the end: taken to run for the median of the others");
  } else if (!run.ended) {
    told.add("tasks were not over at the end: taken to run for as long as they had");
  }
  const runMs = run?.runMs ?? usualMs;
  const { spec } = task;
  if (spec === undefined) {
    if (first === undefined) return undefined;
    told.add("tasks ran already at the beginning: they arrive then, for the rest of their time");
    return runningTask(first, runMs, observed);
  }
  if (spec.array !== undefined) told.add("arrays run each element for the mean of all");
  return {
    ...plainFleetTask,
    ...{ name: spec.id, org: spec.org, project: spec.project, user: spec.user, runMs },
    atMs: Math.max(spec.submittedMs, observed.startMs),
    ...{ demand: spec.demand, replicas: spec.replicas, topology: spec.topology },
    array: spec.array && {
      elements: Math.max(task.pendingElements, task.leasedElements),
      parallelism: Math.max(1, spec.array.leasesLeft),
    },
    ...{ priority: spec.priority, maxRuntimeMs: Math.max(spec.maxRuntimeMs, runMs) },
    ...{ preemptible: spec.preemptible, stopGraceMs: spec.stopGraceMs },
  };
}

/** A task of which only its running is known. */
function runningTask(
  { lease, gpus, members }: ObservedAttempt,
  runMs: number,
  { startMs, nodes }: Observed,
): FleetTask {
  const began = Math.max(0, startMs - (lease.runningSinceMs ?? startMs));
  const held = new Set<string>(lease.gpus);
  const models = [...nodes.values()].flatMap(({ node }) =>
    node.gpus.filter(({ id }) => held.has(id)).map(({ model }) => model),
  );
  const { cpuMillis, memoryMib, diskMib } = lease;
  return {
    ...plainFleetTask,
    ...{ name: lease.task, atMs: startMs, org: lease.org, project: lease.project },
    ...{ user: lease.user, priority: lease.priority, preemptible: lease.preemptible },
    runMs: Math.max(1, runMs - began),
    demand: {
      ...plainDemand,
      gpuCount: Math.round(gpus / members.size),
      gpuModels: [...new Set(models)],
      ...{ cpuMillis, memoryMib, diskMib },
    },
    replicas: members.size,
  };
}

function nodeOf(node: ObservedNode["node"], told: Notes): FleetNode {
  const models = [...new Set(node.gpus.map(({ model }) => model))];
  const [gpu] = node.gpus;
  if (models.length > 1) told.add("nodes have GPUs of several models: taken as all of the first");
  return {
    ...{ name: node.id, cpuMillis: node.cpuMillis, memoryMib: node.memoryMib },
    ...{ diskMib: node.diskMib, model: models[0] ?? "", gpus: node.gpus.length },
    gpuMemoryMib: gpu?.memoryMib ?? 0,
    rack: node.topology["rack"],
    nvlink: node.topology["nvlink"],
    ...(gpu?.mode === undefined ? {} : { mode: gpu.mode }),
  };
}

function faultsOf(
  { outages }: ObservedNode,
  { at: node, endMs, told }: { at: number; endMs: number; told: Notes },
): FleetFault[] {
  return outages.map(({ fromMs: atMs, toMs, lost }) => {
    if (toMs === undefined) told.add("nodes were away at the end: taken to be back then");
    const lastsMs = Math.max(1, (toMs ?? endMs) - atMs);
    if (lost) return { kind: "node_loss", atMs, node, lastsMs };
    // What ran there ran on.
    return { kind: "drain", atMs, node, lastsMs, graceMs: lastsMs };
  });
}

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}
