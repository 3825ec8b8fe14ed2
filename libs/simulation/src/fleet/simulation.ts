import type { AttemptId, NodeId, TaskId } from "@fastgpu/domain/ids";
import type { ExitClass } from "@fastgpu/domain/states";
import { milliOfDemand } from "@fastgpu/scheduling/gpu-part";
import type {
  MemberPlace,
  Placement,
  Plan,
  PlanQueue,
  PlanReservation,
  Preemption,
  WaitReason,
} from "@fastgpu/scheduling/plan";
import { createPlanner, type Planner } from "@fastgpu/scheduling/planner";
import { Ranks, renewRanksEveryMs } from "@fastgpu/scheduling/order/ranks";
import { RunTimes } from "@fastgpu/scheduling/order/run-times";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import { EventHeap } from "../event-heap.ts";
import { seededRandom } from "../openb/seeded.ts";
import { VirtualClock } from "../virtual-clock.ts";
import { endAttempt } from "./ends.ts";
import type { FleetFault } from "./faults.ts";
import { beginFault, endFault, giveUpNode, stopForDrain } from "./hardware.ts";
import { Identity } from "./identity.ts";
import type { FleetNode } from "./inventory.ts";
import { named, type Named } from "./names.ts";
import { NodeRun, type GpuRun } from "./node-run.ts";
import { BrokenPromise, checkPlacement, type Breach } from "./promises.ts";
import { QuotaCount } from "./quotas.ts";
import { FleetRecord } from "./record.ts";
import type { FleetSettings } from "./settings.ts";
import { Attempt, TaskRun } from "./task-run.ts";
import { UsageMeter } from "./usage.ts";
import { WindowView } from "./window.ts";
import type { FleetWorkload } from "./workload.ts";

/** What is played: fleet, load, policy and faults. The same options give the same run to the bit. */
export interface SimulationOptions {
  readonly nodes: readonly FleetNode[];
  readonly workload: FleetWorkload;
  readonly policy: SchedulingPolicy;
  readonly faults: readonly FleetFault[];
  readonly settings: FleetSettings;
  readonly seed: number;
  /** Virtual time at which the run is cut off; default: when nothing can change any more. */
  readonly untilMs?: number | undefined;
  /** Who plans; default: the service's planner under the policy. */
  readonly planner?: Pick<Planner, "plan"> | undefined;
}

/** What happens in virtual time. */
export type FleetEvent =
  | { readonly kind: "arrive"; readonly task: TaskRun }
  | { readonly kind: "start" | "finish" | "stopped"; readonly attempt: Attempt }
  | { readonly kind: "fault" | "fault_over" | "drain_over"; readonly fault: FleetFault }
  | { readonly kind: "lease_end"; readonly node: NodeRun; readonly outage: number }
  /** Something that depends on time alone may have changed for the planner. */
  | { readonly kind: "wake" }
  | { readonly kind: "unreserve"; readonly task: TaskId };

interface GpusOfNode {
  readonly node: NodeRun;
  readonly gpus: readonly GpuRun[];
}

/** A fleet in virtual time, under the service's own planner. */
export class FleetSimulation {
  readonly options: SimulationOptions;
  readonly clock: VirtualClock;
  readonly events = new EventHeap<FleetEvent>();
  readonly nodes: readonly NodeRun[];
  readonly tasks: readonly TaskRun[];
  readonly waiting = new Map<TaskId, TaskRun>();
  readonly record: FleetRecord;
  readonly usage: UsageMeter;
  readonly quotas: QuotaCount;
  /** What has been learned of run times, as the leader learns it. */
  readonly runTimes = new RunTimes();
  /** Ranks by history, as the leader makes them. */
  readonly ranks = new Ranks();
  /** Why each task that waits did so at the last plan. */
  reasons: ReadonlyMap<TaskId, WaitReason> = new Map();
  private readonly planner: Pick<Planner, "plan">;
  private readonly queues: readonly PlanQueue[];
  private readonly reservations: readonly PlanReservation[];
  private readonly byTask: ReadonlyMap<TaskId, TaskRun>;
  private readonly byNode: ReadonlyMap<NodeId, NodeRun>;
  private readonly view: WindowView;
  private readonly live = new Map<AttemptId, Attempt>();
  /** GPUs that preemptions freed, or will free, for a task. */
  private readonly kept = new Map<TaskId, { readonly node: NodeRun; readonly gpu: GpuRun }[]>();
  private readonly attemptIds = new Identity("att");
  private unended: number;
  private dirty = true;
  private lastPlanMs = Number.NEGATIVE_INFINITY;
  private lastPlanIdle = false;
  private nextRanksMs = Number.NEGATIVE_INFINITY;
  private closed = false;

  constructor(options: SimulationOptions, bucketMs: number) {
    const { nodes, workload, policy, seed } = options;
    this.options = options;
    const startMs = workload.tasks[0]?.atMs ?? 0;
    this.clock = new VirtualClock(startMs);
    const ids = { node: new Identity("node"), gpu: new Identity("gpu") };
    this.nodes = nodes.map((spec, index) => new NodeRun(spec, index, ids));
    this.byNode = new Map(this.nodes.map((node) => [node.id, node]));
    const names = named(workload);
    this.tasks = createTasks(workload, names);
    this.byTask = new Map(this.tasks.map((task) => [task.id, task]));
    if (this.byTask.size < this.tasks.length) throw new RangeError("two tasks have one id");
    this.queues = names.queues;
    this.reservations = names.reservations;
    this.quotas = new QuotaCount(names.queues);
    this.usage = new UsageMeter(policy.usage.halfLifeMs);
    this.view = new WindowView(this.tasks);
    this.record = new FleetRecord({ startMs, bucketMs, tenants: names.tenants });
    this.planner = options.planner ?? createPlanner({ policy, rng: seededRandom(seed) });
    this.unended = this.tasks.length;
    for (const node of this.nodes) this.record.capacity.change(startMs, node.inService);
    for (const task of this.tasks) this.events.add(task.spec.atMs, { kind: "arrive", task });
    for (const fault of options.faults) {
      this.events.add(Math.max(startMs, fault.atMs), { kind: "fault", fault });
    }
    for (const { startMs: from, endMs } of this.reservations) {
      for (const atMs of [from, endMs]) if (atMs > startMs) this.events.add(atMs, { kind: "wake" });
    }
  }

  /** Virtual time. */
  get nowMs(): number {
    return this.clock.nowMs();
  }

  /** Tasks that have come to their end, of how many. */
  get progress(): { readonly ended: number; readonly tasks: number } {
    return { ended: this.tasks.length - this.unended, tasks: this.tasks.length };
  }

  /**
   * Plays on for so many events; false when the run is over: every task has ended, nothing can change any more, or the
   * time is up. Throws BrokenPromise where the plan breaks a promise.
   */
  advance(events: number): boolean {
    for (let left = events; left > 0; left--) {
      if (this.unended === 0) return false;
      const nowMs = Math.min(this.events.nextMs(), this.nextPlanMs());
      const untilMs = this.options.untilMs ?? Number.POSITIVE_INFINITY;
      if (nowMs > untilMs || nowMs === Number.POSITIVE_INFINITY) {
        if (nowMs > untilMs && untilMs > this.nowMs) this.clock.advanceTo(untilMs);
        return false;
      }
      this.clock.advanceTo(nowMs);
      while (this.events.nextMs() === nowMs) {
        this.happen(this.events.pop()!.event);
        this.record.events++;
        left--;
      }
      if (this.nextPlanMs() <= nowMs) this.plan();
    }
    return true;
  }

  /** Accounts for what still runs; the run is over with that. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const attempt of this.live.values()) this.record.cutOff(attempt, this.nowMs);
  }

  /** The planner has something new to look at. */
  changed(): void {
    this.dirty = true;
  }

  /** Stops the run: a promise is broken. */
  broken({ promise, detail }: Breach): never {
    throw new BrokenPromise(promise, detail, { seed: this.options.seed, atMs: this.nowMs });
  }

  /** Elements of a task wait (again). */
  enqueue(task: TaskRun, elements: number): void {
    const gpus = task.waitingGpus;
    if (task.pending === 0 || !this.waiting.has(task.id)) task.queuedSinceMs = this.nowMs;
    task.pending += elements;
    this.requeued(task, gpus);
  }

  /** Whether a task waits may have changed. */
  private requeued(task: TaskRun, gpusBefore: number): void {
    const before = this.waiting.has(task.id);
    const after = task.pending > 0 && task.endMs === undefined;
    if (after) this.waiting.set(task.id, task);
    else this.waiting.delete(task.id);
    const gpus = (after ? task.waitingGpus : 0) - (before ? gpusBefore : 0);
    this.record.wait(task, { tasks: Number(after) - Number(before), gpus }, this.nowMs);
    task.changed();
    this.dirty = true;
  }

  /** An attempt gives back everything that it has. */
  release(attempt: Attempt): void {
    const { task } = attempt;
    const gpusBefore = task.waitingGpus;
    const waits = this.waiting.has(task.id);
    this.live.delete(attempt.id);
    task.attempts.delete(attempt);
    for (const node of new Set(attempt.nodes)) {
      this.onNode(node, () => node.release(attempt));
    }
    for (const node of attempt.nodes) {
      this.quotas.change(task, node.spec.model, -milliOfDemand(task.spec.demand));
    }
    this.record.hold(task, -task.gpus, this.nowMs);
    this.usage.change(task, -task.gpus, this.nowMs);
    // One lease fewer runs, so an array may have one more.
    if (waits) this.requeued(task, gpusBefore);
    this.dirty = true;
  }

  /** Changes a node, and what is recorded of it. */
  onNode(node: NodeRun, change: () => void): void {
    const { inService, stranded } = node;
    change();
    node.changed();
    this.record.capacity.change(this.nowMs, node.inService - inService);
    this.record.stranded.change(this.nowMs, node.stranded - stranded);
    this.dirty = true;
  }

  /** A task has come to its end; it does so once. */
  end(task: TaskRun, outcome: "succeeded" | "failed"): void {
    if (task.endMs !== undefined) {
      this.broken({ promise: "every task ends exactly once", detail: `${task.id} ends again` });
    }
    const gpusBefore = task.waitingGpus;
    task.endMs = this.nowMs;
    task.outcome = outcome;
    task.pending = 0;
    this.requeued(task, gpusBefore);
    this.unreserve(task.id);
    this.unended--;
  }

  /** Tells an attempt to stop; it ends with the class after its grace. */
  stop(attempt: Attempt, exitClass: ExitClass): void {
    if (attempt.stopping !== undefined || attempt.ended) return;
    attempt.stopping = { class: exitClass, sinceMs: this.nowMs };
    if (attempt.next !== undefined) this.events.cancel(attempt.next);
    const stopMs = Math.min(this.options.settings.stopMs, attempt.task.spec.stopGraceMs);
    attempt.next = this.events.add(this.nowMs + stopMs, { kind: "stopped", attempt });
    for (const node of attempt.nodes) node.changed();
    this.dirty = true;
  }

  private nextPlanMs(): number {
    if (this.waiting.size === 0) return Number.POSITIVE_INFINITY;
    const { cycleMs, tickMs } = this.options.settings;
    if (this.dirty) return Math.max(this.nowMs, this.lastPlanMs + cycleMs);
    // Where nothing runs and nothing will happen, time alone changes nothing either.
    if (this.lastPlanIdle && this.live.size === 0 && this.events.size === 0) {
      return Number.POSITIVE_INFINITY;
    }
    return this.lastPlanMs + tickMs;
  }

  private happen(event: FleetEvent): void {
    switch (event.kind) {
      case "arrive":
        event.task.arrived = true;
        return this.enqueue(event.task, event.task.spec.array?.elements ?? 1);
      case "start":
        return this.begin(event.attempt);
      case "finish":
        return this.finish(event.attempt);
      case "stopped":
        return this.stopped(event.attempt);
      case "fault":
        return beginFault(this, event.fault);
      case "fault_over":
        return endFault(this, event.fault);
      case "drain_over":
        return stopForDrain(this, event.fault.node);
      case "lease_end":
        return giveUpNode(this, event.node, event.outage);
      case "wake":
        return this.changed();
      case "unreserve":
        return this.unreserve(event.task, this.nowMs);
    }
  }

  /** The containers of an attempt are up, if its nodes can be reached. */
  begin(attempt: Attempt): void {
    attempt.next = undefined;
    // Its lease ends, or the nodes come back and begin it.
    if (attempt.nodes.some((node) => node.down > 0)) return;
    const { task } = attempt;
    const { settings } = this.options;
    const restoreMs = attempt.savedAtStartMs > 0 ? settings.restoreMs : 0;
    attempt.runningMs = this.nowMs;
    attempt.usefulFromMs = this.nowMs + restoreMs;
    const { failure, maxRuntimeMs } = task.spec;
    const fails =
      failure !== undefined && task.failures < failure.times ? failure.afterMs : Infinity;
    const endMs = Math.min(
      attempt.usefulFromMs + attempt.workMs,
      this.nowMs + maxRuntimeMs * attempt.elements,
      this.nowMs + fails,
    );
    attempt.next = this.events.add(endMs, { kind: "finish", attempt });
    for (const node of attempt.nodes) node.changed();
  }

  private finish(attempt: Attempt): void {
    attempt.next = undefined;
    const { failure } = attempt.task.spec;
    const done = attempt.doneMs(this.nowMs) >= attempt.workMs;
    const fails =
      failure !== undefined &&
      attempt.task.failures < failure.times &&
      this.nowMs - attempt.runningMs! >= failure.afterMs;
    const exitClass = fails ? failure.class : done ? "ok" : "timeout";
    if (attempt.nodes.some((node) => node.down > 0)) attempt.unreported = exitClass;
    else endAttempt(this, attempt, exitClass);
  }

  private stopped(attempt: Attempt): void {
    attempt.next = undefined;
    // Who cannot be reached cannot tell that it has stopped: its lease ends, or it comes back.
    if (attempt.nodes.some((node) => node.down > 0 && !node.lost)) return;
    endAttempt(this, attempt, attempt.stopping!.class);
  }

  private plan(): void {
    const nowMs = this.nowMs;
    this.lastPlanMs = nowMs;
    this.dirty = false;
    this.record.plans++;
    const window = this.view.of(this.waiting);
    const nodes = this.nodes.map((node) => node.plan());
    if (nowMs >= this.nextRanksMs) {
      const { order } = this.options.policy;
      if (order.historyBoundMd > 0) {
        this.ranks.renew({ nodes, tasks: window.tasks }, { nowMs, options: order });
      }
      this.nextRanksMs = nowMs + renewRanksEveryMs;
    }
    const plan = this.planner.plan(
      {
        nodes,
        ...window,
        queues: this.queues,
        usage: this.usage.at(nowMs),
        reservations: this.reservations.filter(({ endMs }) => endMs > nowMs),
        runTimes: this.runTimes.plan(),
        ranks: this.ranks.plan(),
      },
      nowMs,
    );
    this.reasons = plan.reasons;
    this.lastPlanIdle = plan.placements.length === 0 && plan.preemptions.length === 0;
    // A place may lie beside what is being freed on a GPU that is shared: it is kept from those who come later only.
    for (const placement of plan.placements) this.lease(placement);
    for (const preemption of plan.preemptions) this.preempt(preemption);
    // What neither started nor has a reason was left for the next plan.
    this.dirty =
      !this.lastPlanIdle &&
      (window.behind.length > 0 || window.tasks.some(({ id }) => this.isLeft(id, plan)));
  }

  private isLeft(id: TaskId, plan: Plan): boolean {
    return this.waiting.has(id) && !plan.reasons.has(id);
  }

  private preempt(preemption: Preemption): void {
    const victim = this.live.get(preemption.victim);
    const promise = "only what can go on from its state is preempted, and once";
    if (victim === undefined || victim.stopping !== undefined || !victim.task.spec.preemptible) {
      this.broken({ promise, detail: `${preemption.victim} for ${preemption.reservedFor}` });
    }
    this.stop(victim, "preempted");
    victim.task.preemptions++;
    this.record.preemptions++;
    const { settings } = this.options;
    const untilMs = this.nowMs + settings.stopMs + settings.reserveMs;
    const wanted = new Set(preemption.gpus);
    const freed = [...new Set(victim.nodes)].map((node) => ({
      node,
      gpus: node.gpus.filter(
        ({ id, holders }) => wanted.has(id) && holders.some(({ attempt }) => attempt === victim),
      ),
    }));
    const { reservedFor, beside = [], movesTo, victimTask } = preemption;
    this.keep([...freed, ...this.unreserved(beside)], reservedFor, untilMs);
    if (movesTo === undefined) return;
    const place = this.unreserved([movesTo]);
    if (place.flatMap(({ gpus }) => gpus).length < movesTo.gpus.length) {
      const detail = `${preemption.victim} moves to ${movesTo.gpus.join(", ")}`;
      this.broken({ promise: "who is moved has a place to go to", detail });
    }
    this.keep(place, victimTask, untilMs);
  }

  /** Those of the GPUs that are kept for nobody. */
  private unreserved(places: readonly Pick<MemberPlace, "node" | "gpus">[]): GpusOfNode[] {
    return places.flatMap(({ node: id, gpus }) => {
      const node = this.byNode.get(id);
      if (node === undefined) return [];
      const own = node.gpus.filter((gpu) => gpus.includes(gpu.id) && gpu.reservedFor === undefined);
      return [{ node, gpus: own }];
    });
  }

  /** Keeps GPUs for a task until a time. */
  private keep(places: readonly GpusOfNode[], task: TaskId, untilMs: number): void {
    for (const { node, gpus } of places) {
      for (const gpu of gpus) {
        gpu.reservedFor = task;
        gpu.reservedUntilMs = untilMs;
      }
      node.changed();
    }
    const now = places.flatMap(({ node, gpus }) => gpus.map((gpu) => ({ node, gpu })));
    this.kept.set(task, [...(this.kept.get(task) ?? []), ...now]);
    this.events.add(untilMs, { kind: "unreserve", task });
  }

  private lease(placement: Placement): void {
    const placed = this.byTask.get(placement.task.id);
    const checked = checkPlacement(placement, placed, (id) => this.byNode.get(id));
    if ("promise" in checked) return this.broken(checked);
    const { task, places } = checked;
    const gpusBefore = task.waitingGpus;
    const attempt = new Attempt({
      id: this.attemptIds.fresh(),
      task,
      nodes: places.map(({ node }) => node),
      elements: task.spec.array === undefined ? 1 : placement.elements,
      now: () => this.nowMs,
    });
    task.attempts.add(attempt);
    task.epoch++;
    task.firstLeaseMs ??= this.nowMs;
    task.pending -= attempt.elements;
    if (task.pending === 0) task.queuedBeforeMs += this.nowMs - task.queuedSinceMs;
    this.live.set(attempt.id, attempt);
    this.record.leases++;
    for (const [member, { node, gpus, part }] of places.entries()) {
      this.onNode(node, () => node.take(attempt, { member, gpus, part }));
      const milli = milliOfDemand(task.spec.demand);
      const breach = this.quotas.change(task, node.spec.model, milli);
      if (breach !== undefined) {
        const { queue, heldGpus, limitGpus } = breach;
        const detail = `${queue} holds ${heldGpus} of ${limitGpus} GPUs with ${task.id}`;
        this.broken({ promise: "a quota is never passed", detail });
      }
    }
    this.record.hold(task, task.gpus, this.nowMs);
    this.usage.change(task, task.gpus, this.nowMs);
    this.requeued(task, gpusBefore);
    this.unreserve(task.id);
    const startMs = this.nowMs + this.options.settings.startMs;
    attempt.next = this.events.add(startMs, { kind: "start", attempt });
  }

  /** What was kept for a task is anybody's: all of it, or what was kept long enough. */
  private unreserve(id: TaskId, dueMs = Number.POSITIVE_INFINITY): void {
    const kept = this.kept.get(id);
    if (kept === undefined) return;
    const still = kept.filter(({ node, gpu }) => {
      if (gpu.reservedFor !== id) return false;
      if (gpu.reservedUntilMs > dueMs) return true;
      gpu.reservedFor = undefined;
      node.changed();
      return false;
    });
    if (still.length > 0) this.kept.set(id, still);
    else this.kept.delete(id);
    this.dirty = true;
  }
}

function createTasks({ tasks }: FleetWorkload, names: Named): readonly TaskRun[] {
  return tasks.map((spec) => {
    const { org, project } = spec;
    return new TaskRun(spec, {
      id: names.task(spec.name),
      org: names.org(org),
      project: names.project(org, project),
      tenant: names.tenantOf(spec),
    });
  });
}
