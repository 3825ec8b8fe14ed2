import type { NodeId, TaskId } from "@fastgpu/domain/ids";
import type {
  PlanLease,
  PlanNode,
  PlanReservation,
  PlanState,
  PlanTask,
} from "@fastgpu/scheduling/plan";
import type { Frame } from "@fastgpu/scheduling/recording/frames";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";

/** An attempt as a recording shows it. Times in milliseconds. */
export interface ObservedAttempt {
  readonly lease: PlanLease;
  /** The state in which it was first seen, and the first without it; undefined: it outlived the recording. */
  readonly seenMs: number;
  goneMs: number | undefined;
  runningSinceMs: number | undefined;
  savedMs: number | undefined;
  /** GPUs of all members. */
  gpus: number;
  readonly members: Set<number>;
  /** Members that still hold something. */
  held: number;
}

/** A task as a recording shows it. */
export interface ObservedTask {
  readonly id: TaskId;
  /** As it waited; undefined where it ran already when the recording began. */
  spec: PlanTask | undefined;
  readonly attempts: ObservedAttempt[];
  /** For an array: elements that were leased, and the most that waited at once. */
  leasedElements: number;
  pendingElements: number;
  /** Leases that were decided, seen running or not. */
  placements: number;
}

/** A stretch in which a node took no work. */
export interface Outage {
  readonly fromMs: number;
  toMs: number | undefined;
  /** Whether what ran there was gone at once. */
  readonly lost: boolean;
}

/** A node as a recording shows it. */
export interface ObservedNode {
  /** Its newest state. */
  node: PlanNode;
  readonly outages: Outage[];
}

/** Everything that a recording tells of the load and the fleet. */
export interface Observed {
  readonly startMs: number;
  readonly endMs: number;
  readonly tasks: ReadonlyMap<TaskId, ObservedTask>;
  readonly nodes: ReadonlyMap<NodeId, ObservedNode>;
  /** Every reservation, as it was last. */
  readonly reservations: ReadonlyMap<string, PlanReservation>;
  /** The newest queues. */
  readonly state: PlanState | undefined;
  /** Policies that were in force, in their order. */
  readonly policies: readonly SchedulingPolicy[];
  /** Whether a task still waited at the end. */
  waits(id: TaskId): boolean;
}

const keyOf = ({ attempt, member }: PlanLease): string => `${attempt}/${member}`;

/** Follows frames, of one segment after the other, and keeps what a simulation of the same load needs. */
export class Observer implements Observed {
  startMs = Number.NaN;
  endMs = Number.NaN;
  readonly tasks = new Map<TaskId, ObservedTask>();
  readonly nodes = new Map<NodeId, ObservedNode>();
  state: PlanState | undefined;
  readonly policies: SchedulingPolicy[] = [];
  readonly reservations = new Map<string, PlanReservation>();
  private readonly live = new Map<string, ObservedAttempt>();
  private readonly lastPlaced = new Set<TaskId>();
  private waitingNow: ReadonlySet<TaskId> | undefined;

  /** Takes in the next frame. */
  see(frame: Frame): void {
    if (frame.kind === "beginning") return this.policy(frame.beginning.policy);
    if (frame.kind === "policy") return this.policy(frame.policy);
    const { state, nowMs } = frame;
    if (Number.isNaN(this.startMs)) {
      this.startMs = nowMs;
      // What was in force before is of no matter.
      this.policies.splice(0, this.policies.length - 1);
    }
    this.endMs = nowMs;
    this.fleet(state.nodes, nowMs);
    for (const spec of state.tasks) this.waiting(spec);
    for (const each of state.reservations) this.reservations.set(each.id, each);
    this.state = state;
    this.waitingNow = undefined;
    this.lastPlaced.clear();
    if (frame.kind !== "cycle") return;
    for (const { task: id, elements } of frame.planned.placements) {
      this.lastPlaced.add(id);
      const task = this.task(id);
      task.placements += 1;
      task.leasedElements += elements;
    }
  }

  /** Whether a task still waited after the last frame. */
  waits(id: TaskId): boolean {
    this.waitingNow ??= new Set(this.state?.tasks.map((task) => task.id));
    return this.waitingNow.has(id) && !this.lastPlaced.has(id);
  }

  private policy(policy: SchedulingPolicy): void {
    const last = this.policies.at(-1);
    if (JSON.stringify(last) !== JSON.stringify(policy)) this.policies.push(policy);
  }

  private task(id: TaskId): ObservedTask {
    const known = this.tasks.get(id);
    if (known !== undefined) return known;
    const counts = { leasedElements: 0, pendingElements: 0, placements: 0 };
    const made = { id, spec: undefined, attempts: [], ...counts };
    this.tasks.set(id, made);
    return made;
  }

  private waiting(spec: PlanTask): void {
    const task = this.task(spec.id);
    task.spec ??= spec;
    task.pendingElements = Math.max(task.pendingElements, spec.array?.pending ?? 1);
  }

  private fleet(nodes: readonly PlanNode[], nowMs: number): void {
    for (const node of nodes) {
      const known = this.nodes.get(node.id);
      if (known?.node === node) continue;
      this.leases(known?.node.running ?? [], node.running, nowMs);
      this.node(node, nowMs);
    }
    if (nodes.length === this.nodes.size) return;
    const present = new Set(nodes.map(({ id }) => id));
    for (const [id, known] of this.nodes) {
      if (present.has(id)) continue;
      this.leases(known.node.running, [], nowMs);
      known.node = { ...known.node, running: [] };
      begin(known, { fromMs: nowMs, toMs: undefined, lost: true });
    }
  }

  /** What a node holds now, and no more: an attempt is gone with the last of its members. */
  private leases(before: readonly PlanLease[], now: readonly PlanLease[], nowMs: number): void {
    const held = new Set(before.map(keyOf));
    for (const lease of now) this.lease(lease, { nowMs, isNew: !held.delete(keyOf(lease)) });
    for (const lease of before) {
      if (!held.has(keyOf(lease))) continue;
      const attempt = this.live.get(lease.attempt);
      if (attempt === undefined || --attempt.held > 0) continue;
      attempt.goneMs = nowMs;
      this.live.delete(lease.attempt);
    }
  }

  private lease(lease: PlanLease, { nowMs, isNew }: { nowMs: number; isNew: boolean }): void {
    let attempt = this.live.get(lease.attempt);
    if (attempt === undefined) {
      attempt = {
        ...{ lease, seenMs: nowMs, goneMs: undefined, gpus: 0, members: new Set(), held: 0 },
        ...{ runningSinceMs: undefined, savedMs: undefined },
      };
      this.live.set(lease.attempt, attempt);
      this.task(lease.task).attempts.push(attempt);
    }
    if (isNew) attempt.held += 1;
    attempt.runningSinceMs ??= lease.runningSinceMs;
    attempt.savedMs = lease.savedMs ?? attempt.savedMs;
    if (attempt.members.has(lease.member)) return;
    attempt.members.add(lease.member);
    attempt.gpus += lease.gpus.length;
  }

  private node(node: PlanNode, nowMs: number): void {
    const known = this.nodes.get(node.id);
    if (known === undefined) {
      const joined = { fromMs: this.startMs, toMs: nowMs, lost: false };
      const outages = nowMs > this.startMs ? [joined] : [];
      const made = { node, outages };
      this.nodes.set(node.id, made);
      if (!node.acceptsWork) begin(made, { fromMs: nowMs, toMs: undefined, lost: false });
      return;
    }
    if (node.acceptsWork) {
      const last = known.outages.at(-1);
      if (last !== undefined) last.toMs ??= nowMs;
    } else {
      const lost = known.node.running.length > 0 && node.running.length === 0;
      begin(known, { fromMs: nowMs, toMs: undefined, lost });
    }
    known.node = node;
  }
}

/** Begins an outage unless one lasts. */
function begin({ outages }: ObservedNode, outage: Outage): void {
  const last = outages.at(-1);
  if (last === undefined || last.toMs !== undefined) outages.push(outage);
}
