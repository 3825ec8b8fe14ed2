import type { GpuId, NodeId, TaskId } from "@fastgpu/domain/ids";
import type { PolicyName } from "../placement/engine.ts";
import { maxElementsPerLease, type PlanNode, type PlanTask, type Rng } from "../plan.ts";
import { emptyFleet, type Fleet, inOrder, observeArrivals } from "../planner.ts";
import { withLease, withoutLease } from "./lease.ts";

/** What a forecast starts from. */
export interface ForecastInput {
  readonly nodes: readonly PlanNode[];
  /** Everything that waits, the task in question included. */
  readonly tasks: readonly PlanTask[];
  readonly nowMs: number;
  /** Latest end of each lease of a node, in the order of its `running`; a lease without one never ends. */
  readonly endsByMs: ReadonlyMap<NodeId, readonly number[]>;
  /** Longest time that one attempt (of an array: one element) of a waiting task may hold its resources. */
  readonly maxRunMs: (task: TaskId) => number;
  readonly policy: PolicyName;
  readonly rng: Rng;
  /** Asked before each turn: false ends the forecast as unknown. Default: the fixed bounds alone. */
  readonly goOn?: () => boolean;
}

/** When a task starts if every lease lasts as long as it may, and where. */
export type Forecast =
  | {
      readonly kind: "starts";
      readonly atMs: number;
      readonly node: NodeId;
      readonly gpus: readonly GpuId[];
      /** Node whose lease ended last before it; undefined where it starts without waiting for one. */
      readonly freedOn: NodeId | undefined;
    }
  /** Not even once everything has ended. */
  | { readonly kind: "never" }
  /** Too far ahead to be worked out within the bounds. */
  | { readonly kind: "unknown" };

/** Lease ends that a forecast goes through at most. */
const maxSteps = 1_000;
/** Places that it looks for at most, and tasks that it looks at at most: about a second of work. */
const maxFinds = 20_000;
const maxLooks = 1_000_000;

interface End {
  readonly atMs: number;
  readonly node: NodeId;
  /** Marks the lease on its node. */
  readonly lease: object;
  readonly task: PlanTask | undefined;
}

/** A node with a mark for each of its running leases. */
interface Simulated {
  readonly node: PlanNode;
  readonly leases: readonly object[];
}

/**
 * Follows the planner into the future: leases end one after the other, each at its upper bound, and after each end
 * everything that waits is placed in the planner's order. Nobody submits anything new, and no task fails.
 */
export function forecastStart(input: ForecastInput, task: TaskId): Forecast {
  return new Future(input, task).run(maxSteps);
}

/** Whether the next cycle's plan places the task. */
export function startsNow(input: ForecastInput, task: TaskId): boolean {
  return new Future({ ...input, goOn: () => true }, task).run(1).kind === "starts";
}

/** The nodes as the next cycle's plan has them when it comes to the task. */
export function nodesBefore(input: ForecastInput, task: TaskId): readonly PlanNode[] {
  return new Future(input, task).nodesBefore();
}

class Future {
  private readonly input: ForecastInput;
  private readonly task: TaskId;
  private readonly fleet: Fleet;
  private readonly nodes = new Map<NodeId, Simulated>();
  private readonly order: readonly PlanTask[];
  private readonly keys: readonly string[];
  /** Elements and leases left of tasks that were placed. */
  private readonly left = new Map<TaskId, { pending: number; leases: number }>();
  /** By time, the next one last. */
  private readonly ends: End[] = [];
  private finds = 0;
  private looks = 0;

  constructor(input: ForecastInput, task: TaskId) {
    this.input = input;
    this.task = task;
    this.fleet = emptyFleet(input);
    for (const node of input.nodes) {
      const leases = node.running.map(() => ({}));
      this.nodes.set(node.id, { node, leases });
      for (const [at, lease] of leases.entries()) {
        const atMs = input.endsByMs.get(node.id)?.[at];
        if (atMs !== undefined) this.ends.push({ atMs, node: node.id, lease, task: undefined });
      }
    }
    this.ends.sort((a, b) => b.atMs - a.atMs);
    this.order = inOrder(input.tasks);
    this.keys = this.order.map((each) => JSON.stringify([each.demand, each.excludedGpus]));
    observeArrivals(this.fleet, new Set(), input.tasks);
  }

  nodesBefore(): readonly PlanNode[] {
    const ahead = this.order.findIndex((task) => task.id === this.task);
    this.fleet.sync(this.input.nodes);
    this.placeWaiting(this.input.nowMs, this.order.slice(0, ahead));
    return Array.from(this.nodes.values(), ({ node }) => node);
  }

  run(steps: number): Forecast {
    let nowMs = this.input.nowMs;
    let freedOn: NodeId | undefined;
    for (let step = 0; step < steps; step++) {
      if (step > 0 && this.input.goOn?.() === false) return { kind: "unknown" };
      this.fleet.sync(Array.from(this.nodes.values(), ({ node }) => node));
      const place = this.placeWaiting(nowMs);
      if (place !== undefined) return { kind: "starts", atMs: nowMs, ...place, freedOn };
      if (this.finds > maxFinds || this.looks > maxLooks) return { kind: "unknown" };
      const next = this.nextMs(nowMs);
      if (next === undefined) return { kind: "never" };
      nowMs = next;
      freedOn = this.endLeases(nowMs) ?? freedOn;
    }
    return { kind: "unknown" };
  }

  /** Places what fits, in order; answers where the task in question goes, if it does. */
  private placeWaiting(
    nowMs: number,
    order: readonly PlanTask[] = this.order,
  ): { node: NodeId; gpus: readonly GpuId[] } | undefined {
    const trial = this.fleet.trial();
    // What did not fit once fits no better later in the same turn: places are only taken.
    const full = new Set<string>();
    const taken: { task: PlanTask; node: NodeId; gpus: readonly GpuId[] }[] = [];
    try {
      for (const [at, task] of order.entries()) {
        this.looks++;
        const key = this.keys[at] ?? "";
        if (task.notBeforeMs > nowMs || full.has(key)) continue;
        for (let leases = this.leasesLeft(task); leases > 0; leases--) {
          this.finds++;
          const place = trial.place(task);
          if (place === undefined) {
            full.add(key);
            break;
          }
          if (task.id === this.task) return place;
          taken.push({ task, ...place });
        }
      }
    } finally {
      trial.undo();
    }
    for (const each of taken) this.hold(each, nowMs);
    return undefined;
  }

  private leasesLeft(task: PlanTask): number {
    const { pending, leases } = this.stateOf(task);
    return Math.min(pending, leases);
  }

  private stateOf(task: PlanTask): { pending: number; leases: number } {
    const known = this.left.get(task.id);
    if (known !== undefined) return known;
    const { pending, leasesLeft: leases } = task.array ?? { pending: 1, leasesLeft: 1 };
    const state = { pending, leases };
    this.left.set(task.id, state);
    return state;
  }

  private hold(
    { task, node: id, gpus }: { task: PlanTask; node: NodeId; gpus: readonly GpuId[] },
    nowMs: number,
  ): void {
    const on = this.nodes.get(id);
    if (on === undefined) return;
    const state = this.stateOf(task);
    const share = Math.ceil(state.pending / Math.max(1, state.leases));
    const elements = Math.min(maxElementsPerLease, share);
    state.pending -= elements;
    state.leases -= 1;
    const lease = {};
    this.nodes.set(id, {
      node: withLease(on.node, task, { gpus, nowMs }),
      leases: [...on.leases, lease],
    });
    const atMs = nowMs + elements * this.input.maxRunMs(task.id);
    const later = this.ends.findLastIndex((end) => end.atMs >= atMs);
    this.ends.splice(later + 1, 0, { atMs, node: id, lease, task });
  }

  /** The next moment at which something changes. */
  private nextMs(nowMs: number): number | undefined {
    let next = this.ends.at(-1)?.atMs;
    for (const task of this.order) {
      if (task.notBeforeMs > nowMs) next = Math.min(next ?? Infinity, task.notBeforeMs);
    }
    // A lease that should have ended already may do so at any moment.
    return next === undefined ? undefined : Math.max(nowMs, next);
  }

  /** Ends what is due; answers the node of the last one. */
  private endLeases(nowMs: number): NodeId | undefined {
    let last: NodeId | undefined;
    for (
      let end = this.ends.at(-1);
      end !== undefined && end.atMs <= nowMs;
      end = this.ends.at(-1)
    ) {
      this.ends.pop();
      const on = this.nodes.get(end.node);
      const at = on?.leases.indexOf(end.lease) ?? -1;
      if (on === undefined || at < 0) continue;
      const leases = on.leases.filter((lease) => lease !== end.lease);
      this.nodes.set(end.node, { node: withoutLease(on.node, at), leases });
      if (end.task !== undefined) this.stateOf(end.task).leases += 1;
      last = end.node;
    }
    return last;
  }
}
