/** A small fleet in virtual time for tests: applies plans as the service would, and checks each against the fleet. */
import type { AttemptId, NodeId, TaskId } from "@fastgpu/domain/ids";
import {
  withLease,
  withoutAttempt,
  withoutReserved,
  withReserved,
  withStopping,
} from "./explain/lease.ts";
import { milliOfDemand } from "./gpu-part.ts";
import { Ranks } from "./order/ranks.ts";
import { RunTimes } from "./order/run-times.ts";
import type {
  MemberPlace,
  Plan,
  PlanLease,
  PlanNode,
  PlanQueue,
  PlanRank,
  PlanReservation,
  PlanRunTimes,
  PlanState,
  PlanTask,
  PlanUsage,
} from "./plan.ts";
import { checkPart, checkParts } from "./scene-parts.ts";
import { createPlanner, type Planner } from "./planner.ts";
import { defaultSchedulingPolicy, type SchedulingPolicy } from "./scheduling-policy.ts";

/** A task with the time that it really runs. */
export interface Work {
  readonly task: PlanTask;
  readonly runMs: number;
}

/** What runs in the world. */
export interface Running {
  work: Work;
  readonly nodes: readonly NodeId[];
  readonly startMs: number;
  /** When it ends by itself. */
  endMs: number;
  stopping: boolean;
}

/** Time from a stop signal to the end of a victim. */
const stopMs = 5_000;

/** Plays plans on a fleet. Violations of what must always hold throw. */
export class World {
  nowMs = 0;
  readonly nodes = new Map<NodeId, PlanNode>();
  readonly waiting = new Map<TaskId, Work>();
  readonly running = new Map<AttemptId, Running>();
  readonly started = new Map<TaskId, number>();
  readonly preempted: { readonly task: TaskId; readonly atMs: number }[] = [];
  /** Those of them that moved to make room for another. */
  readonly moved: { readonly task: TaskId; readonly for: TaskId; readonly atMs: number }[] = [];
  /** GPU-milliseconds by project. */
  readonly served = new Map<string, number>();
  queues: readonly PlanQueue[] = [];
  reservations: readonly PlanReservation[] = [];
  /** What the planner is told of run times; undefined: what has ended in this world. */
  runTimes: readonly PlanRunTimes[] | undefined;
  /** What the planner is told of ranks; undefined: those of this world, renewed as time goes on. */
  ranks: readonly PlanRank[] | undefined;
  usage: PlanUsage[] = [];
  readonly policy: SchedulingPolicy;
  readonly planner: Planner;
  private history = new RunTimes();
  private readonly past = new Ranks();
  private attempts = 0;

  constructor(nodes: readonly PlanNode[], policy: SchedulingPolicy = defaultSchedulingPolicy) {
    for (const node of nodes) this.nodes.set(node.id, node);
    this.policy = policy;
    this.planner = createPlanner({ policy, rng: () => 0.5 });
  }

  submit(...works: readonly Work[]): void {
    for (const work of works) this.waiting.set(work.task.id, work);
  }

  state(): PlanState {
    return {
      nodes: [...this.nodes.values()],
      tasks: Array.from(this.waiting.values(), ({ task }) => task),
      queues: this.queues,
      usage: this.usage,
      reservations: this.reservations,
      runTimes: this.runTimes ?? this.history.plan(),
      ranks: this.ranks ?? this.past.plan(),
    };
  }

  /** Plans once and applies the plan. */
  turn(): Plan {
    const state = this.state();
    const plan = this.planner.plan(state, this.nowMs);
    for (const placement of plan.placements) {
      const { task, members } = placement;
      if (members.length !== task.replicas) throw new Error(`${task.id} is not whole`);
      const attempt = `att-${this.attempts++}` as AttemptId;
      const work = this.waiting.get(task.id);
      if (work === undefined) throw new Error(`${task.id} does not wait`);
      for (const [member, { node: id, gpus, part }] of members.entries()) {
        const node = this.nodes.get(id);
        if (node === undefined || !node.acceptsWork) throw new Error(`${id} takes no work`);
        for (const gpu of gpus) {
          const found = node.gpus.find((each) => each.id === gpu);
          if (found?.free !== true) throw new Error(`${gpu} is not free`);
          if ((found.reservedFor ?? task.id) !== task.id) throw new Error(`${gpu} is reserved`);
          if (part === undefined && node.running.some((lease) => lease.gpus.includes(gpu)))
            throw new Error(`${gpu} is shared, and given out whole`);
        }
        if (gpus.length !== task.demand.gpuCount)
          throw new Error(`${task.id} gets ${gpus.length} GPUs`);
        const at = { gpus, part, nowMs: this.nowMs, attempt, member };
        const held = withLease(node, task, at);
        checkPart(task, part);
        checkParts(held);
        for (const resource of ["cpuMillis", "memoryMib", "diskMib"] as const) {
          const sum = held.running.reduce((total, lease) => total + lease[resource], 0);
          if (sum > node[resource]) throw new Error(`${id} has not so much ${resource}`);
        }
        this.nodes.set(id, held);
      }
      for (const [id, node] of this.nodes) {
        if (node.gpus.some((gpu) => gpu.reservedFor === task.id)) {
          this.nodes.set(id, withoutReserved(node, task.id));
        }
      }
      this.waiting.delete(task.id);
      if (!this.started.has(task.id)) this.started.set(task.id, this.nowMs);
      this.running.set(attempt, {
        work: { ...work, task: { ...task } },
        nodes: [...new Set(members.map(({ node }) => node))],
        startMs: this.nowMs,
        endMs: this.nowMs + work.runMs,
        stopping: false,
      });
    }
    for (const preemption of plan.preemptions) {
      const { victim, victimTask, gpus, beside = [], movesTo, reservedFor } = preemption;
      this.stop(victim, gpus, reservedFor);
      for (const place of beside) this.keep(place, reservedFor);
      if (movesTo === undefined) continue;
      const { gpus: there } = this.nodes.get(movesTo.node)!;
      const free = movesTo.gpus.every((id) => there.find((gpu) => gpu.id === id)?.free === true);
      if (!free) throw new Error(`${victimTask} moves to GPUs that are not free`);
      this.keep(movesTo, victimTask);
      this.moved.push({ task: victimTask, for: reservedFor, atMs: this.nowMs });
    }
    return plan;
  }

  /** Keeps GPUs for a task. */
  private keep({ node: id, gpus }: MemberPlace, task: TaskId): void {
    const node = this.nodes.get(id)!;
    const taken = node.gpus.some(
      (gpu) => gpus.includes(gpu.id) && (gpu.reservedFor ?? task) !== task,
    );
    if (taken) throw new Error(`${id} has GPUs that are kept for two tasks`);
    this.nodes.set(id, withReserved(node, gpus, task));
  }

  private stop(victim: AttemptId, gpus: PlanLease["gpus"], reservedFor: TaskId): void {
    const running = this.running.get(victim);
    if (running === undefined) throw new Error(`${victim} does not run`);
    const { task } = running.work;
    if (!task.preemptible) throw new Error(`${task.id} can not be stopped`);
    if (running.stopping) throw new Error(`${task.id} stops already`);
    running.stopping = true;
    const endsByMs = this.nowMs + stopMs;
    for (const id of running.nodes) {
      const node = this.nodes.get(id)!;
      this.nodes.set(id, withStopping(node, victim, { endsByMs, gpus, reservedFor }));
    }
    this.preempted.push({ task: task.id, atMs: this.nowMs });
    const doneMs = this.nowMs - running.startMs;
    const left = Math.max(1, running.work.runMs - doneMs);
    running.work = { ...running.work, runMs: left };
    running.endMs = endsByMs;
  }

  /** The next moment at which something ends. */
  nextMs(): number {
    return Math.min(...Array.from(this.running.values(), ({ endMs }) => endMs));
  }

  /** Goes to a time: what ends until then ends. */
  advance(toMs: number): void {
    const passedMs = toMs - this.nowMs;
    const decay = 2 ** (-passedMs / this.policy.usage.halfLifeMs);
    const sums = new Map<string, PlanUsage>();
    for (const each of this.usage) {
      sums.set(`${each.project} ${each.user}`, { ...each, gpuMs: each.gpuMs * decay });
    }
    for (const { work } of this.running.values()) {
      const { org, project, user, demand, replicas } = work.task;
      const gpuMs = (passedMs * milliOfDemand(demand) * replicas) / 1000;
      const key = `${project} ${user}`;
      sums.set(key, { org, project, user, gpuMs: (sums.get(key)?.gpuMs ?? 0) + gpuMs });
      this.served.set(project, (this.served.get(project) ?? 0) + gpuMs);
    }
    this.usage = [...sums.values()];
    this.nowMs = toMs;
    for (const [attempt, { work, nodes, startMs, endMs, stopping }] of this.running) {
      if (endMs > toMs) continue;
      this.running.delete(attempt);
      for (const id of nodes) this.nodes.set(id, withoutAttempt(this.nodes.get(id)!, attempt));
      const { task } = work;
      const gpus = (milliOfDemand(task.demand) * task.replicas) / 1000;
      if (!stopping) {
        const { project, user, demand } = task;
        this.history.observe({ ...demand, project, user, gpus }, endMs - startMs);
        const ranMs = endMs - startMs + task.attainedGpuMs / Math.max(1, gpus);
        this.past.observe({ project, gpus, submittedMs: task.submittedMs, ranMs });
        continue;
      }
      const again = {
        ...task,
        attainedGpuMs: task.attainedGpuMs + (toMs - startMs) * gpus,
        heldMs: task.heldMs + toMs - startMs,
        preemptions: task.preemptions + 1,
      };
      this.submit({ task: again, runMs: work.runMs });
    }
    this.past.renew(this.state(), { nowMs: toMs, options: this.policy.order });
  }

  /** A world in the same state, with a planner of its own. */
  copy(): World {
    const copy = new World([...this.nodes.values()], this.policy);
    copy.nowMs = this.nowMs;
    copy.queues = this.queues;
    copy.reservations = this.reservations;
    copy.runTimes = this.runTimes ?? this.history.plan();
    copy.ranks = this.ranks ?? this.past.plan();
    copy.usage = this.usage;
    copy.attempts = this.attempts;
    for (const [id, work] of this.waiting) copy.waiting.set(id, work);
    for (const [id, running] of this.running) copy.running.set(id, { ...running });
    return copy;
  }

  /** How long a task has run in all its attempts so far. */
  ranMs(id: TaskId): number {
    const gone = this.waiting.get(id)?.task;
    const now = [...this.running.values()].find(({ work }) => work.task.id === id);
    const task = gone ?? now?.work.task;
    if (task === undefined) return Number.POSITIVE_INFINITY;
    const milli = Math.max(1, milliOfDemand(task.demand) * task.replicas);
    return (1000 * task.attainedGpuMs) / milli + (now === undefined ? 0 : this.nowMs - now.startMs);
  }
}
