import { IntHeap } from "./heap.ts";
import { ServiceHistory } from "./history.ts";
import type { Life } from "./history.ts";
import { JobTable, jobState } from "./jobs.ts";
import type { NewJob, Slot } from "./jobs.ts";
import { neverMs, type OrderPolicy } from "./policy.ts";
import { allowance, sizeMd, unstoppableMd, waitedMd } from "./score.ts";
import { ShareTree } from "./shares.ts";
import type { ShareNode } from "./shares.ts";

/** Waiting jobs of one leaf, shape and priority: where the first finds no room, none of the others does. */
export interface Group {
  readonly leaf: number;
  readonly shape: number;
  readonly priority: number;
  readonly gpusMilli: number;
  readonly heap: IntHeap;
}

/**
 * The queue between cycles: all jobs as columns, the waiting ones in heaps by group, the running ones in a list, and
 * what each queue of the tree holds and wants. Each change costs O(log n); a cycle (`decide` in decide.ts) costs
 * O(groups + running), whatever the number of waiting jobs. No clock: every time is given.
 */
export class OrderQueue {
  readonly policy: OrderPolicy;
  readonly tree: ShareTree;
  readonly jobs = new JobTable();
  readonly groups: Group[] = [];
  /** Jobs that run or leave, in the order of their start. */
  readonly running = new Set<Slot>();
  /** Run times of what has run: bends the order as far as the policy lets it. Undefined: ranks come with the jobs. */
  private readonly history: ServiceHistory | undefined;
  /** Ranks that came with jobs. */
  private readonly ranks = new Map<Slot, number>();
  /** The jobs in the queue that have run, with what history knows of them. */
  private readonly lives = new Map<Slot, Life>();
  private readonly groupIndex = new Map<number, number[]>();
  private readonly byRoot = new Map<number, number[]>();
  private readonly byAge: IntHeap;
  private waitingJobs = 0;

  /** With `learns` false the queue lives for one plan: ranks come with its jobs, and `refresh` is never called. */
  constructor(policy: OrderPolicy, queues: readonly ShareNode[], learns = true) {
    this.policy = policy;
    this.history = learns ? new ServiceHistory(policy) : undefined;
    this.tree = new ShareTree(queues);
    const { jobs } = this;
    const base = (slot: Slot): number => jobs.sinceMs[slot]! - jobs.queuedMs[slot]!;
    this.byAge = new IntHeap({
      before: (a, b) => base(a) < base(b) || (base(a) === base(b) && jobs.tie[a]! < jobs.tie[b]!),
      places: () => jobs.agePlace,
    });
  }

  /** Number of jobs that wait. */
  get waiting(): number {
    return this.waitingJobs;
  }

  /** Adds a job that waits from now on. Throws RangeError for one that is not valid. */
  add(job: NewJob, nowMs: number): Slot {
    const slot = this.enter(job);
    this.toWaiting(slot, nowMs);
    return slot;
  }

  /** Adds a job that runs since `sinceMs` and does useful work from `usefulMs` on, as `add` and `start` would. */
  addRunning(job: NewJob, sinceMs: number, usefulMs: number): Slot {
    const slot = this.enter(job);
    this.toRunning(slot, sinceMs, usefulMs);
    return slot;
  }

  private enter(job: NewJob): Slot {
    const { jobs, tree } = this;
    if (!(job.gpusMilli >= 0) || !Number.isInteger(job.gpusMilli) || job.attainedGpuMs < 0) {
      throw new RangeError(`not a valid job: ${JSON.stringify(job)}`);
    }
    if (tree.nodes[job.leaf] === undefined) throw new RangeError(`no queue ${job.leaf}`);
    const slot = jobs.take();
    jobs.leaf[slot] = job.leaf;
    jobs.group[slot] = this.groupOf(job);
    jobs.gpusMilli[slot] = job.gpusMilli;
    jobs.flags[slot] = job.preemptible ? 1 : 0;
    jobs.preemptions[slot] = Math.min(65_535, job.preemptions ?? 0);
    jobs.submitMs[slot] = job.submitMs;
    jobs.attainedGpuMs[slot] = job.attainedGpuMs;
    jobs.queuedMs[slot] = job.queuedMs ?? 0;
    jobs.predictedS[slot] = Math.min(2 ** 31 - 1, Math.ceil(job.predictedMs / 1000));
    jobs.tie[slot] = job.tie;
    if (job.rankMs !== undefined) this.ranks.set(slot, job.rankMs);
    tree.want(job.leaf, job.gpusMilli);
    return slot;
  }

  /** A job began to hold its GPUs; it does useful work from `usefulMs` on (after the restore). */
  start(slot: Slot, nowMs: number, usefulMs: number = nowMs): void {
    const { jobs } = this;
    this.assertState(slot, [jobState.waiting, jobState.promised], "start");
    const queued = jobs.queuedAt(slot, nowMs);
    if (jobs.state[slot] === jobState.waiting) this.unlist(slot);
    jobs.queuedMs[slot] = queued;
    this.toRunning(slot, nowMs, usefulMs);
  }

  private toRunning(slot: Slot, nowMs: number, usefulMs: number): void {
    const { jobs, tree } = this;
    jobs.state[slot] = jobState.running;
    jobs.sinceMs[slot] = nowMs;
    jobs.usefulMs[slot] = usefulMs;
    jobs.savedMs[slot] = usefulMs;
    const { history } = this;
    if (
      history !== undefined &&
      this.changes &&
      jobs.gpusMilli[slot]! > 0 &&
      !this.lives.has(slot)
    ) {
      this.lives.set(slot, history.enter(jobs.leaf[slot]!, jobs.gpusMilli[slot]! / 1000));
    }
    tree.allocate(jobs.leaf[slot]!, jobs.gpusMilli[slot]!);
    this.running.add(slot);
  }

  /** A job was asked to stop for another: it holds its GPUs until `stop` or `remove`. */
  leave(slot: Slot): void {
    this.assertState(slot, [jobState.running], "leave");
    this.jobs.state[slot] = jobState.leaving;
  }

  /** GPUs are being freed for this waiting job: it is out of the walk until `start` or `wait`. */
  promise(slot: Slot): void {
    this.assertState(slot, [jobState.waiting], "promise");
    this.unlist(slot);
    this.jobs.state[slot] = jobState.promised;
  }

  /** A running job lost its GPUs and waits again; `preempted` counts against its allowance. */
  stop(slot: Slot, nowMs: number, preempted: boolean): void {
    const { jobs } = this;
    this.assertState(slot, [jobState.running, jobState.leaving], "stop");
    jobs.attainedGpuMs[slot] = jobs.attainedAt(slot, nowMs);
    if (preempted) jobs.preemptions[slot] = Math.min(65_535, jobs.preemptions[slot]! + 1);
    this.vacate(slot);
    this.toWaiting(slot, nowMs);
  }

  /** A promise came to nothing: the job waits again. */
  wait(slot: Slot, nowMs: number): void {
    this.assertState(slot, [jobState.promised], "wait");
    this.jobs.queuedMs[slot] = this.jobs.queuedAt(slot, nowMs);
    this.toWaiting(slot, nowMs);
  }

  /** A running job saved its state at this time: a stop now loses nothing before it. */
  saved(slot: Slot, atMs: number): void {
    this.jobs.savedMs[slot] = atMs;
  }

  /** A running job ended by itself: its run time is learned, and it leaves. */
  finish(slot: Slot, nowMs: number): void {
    this.assertState(slot, [jobState.running, jobState.leaving], "finish");
    const life = this.lives.get(slot);
    if (life !== undefined) this.history?.end(life, this.runMs(slot, nowMs));
    this.remove(slot);
  }

  /**
   * Takes what was learned into the order, and who is late or due by now: ranks anew all jobs that have run, O(k log n)
   * for k of them. Once in a few hours is enough; does nothing where neither history nor waiting bends the order. A job
   * that never ran needs none: it has the size of one that is due.
   */
  refresh(nowMs: number): void {
    const { jobs, lives } = this;
    if (lives.size === 0) return;
    if (this.bends) {
      this.history?.refresh(
        new Map([...lives].map(([slot, life]) => [life, this.runMs(slot, nowMs)])),
      );
    }
    for (const slot of lives.keys()) {
      if (jobs.state[slot] !== jobState.waiting) continue;
      const { heap } = this.groups[jobs.group[slot]!]!;
      heap.remove(slot);
      jobs.sizeMd[slot] = this.waitingSize(slot, nowMs);
      heap.push(slot);
    }
  }

  /** A job was cancelled, or ended in a way that says nothing about its run time. */
  remove(slot: Slot): void {
    const { jobs, tree } = this;
    const state = jobs.state[slot]!;
    if (state === jobState.none) throw new RangeError(`job ${slot} is not in the queue`);
    if (state === jobState.waiting) this.unlist(slot);
    if (state === jobState.running || state === jobState.leaving) this.vacate(slot);
    tree.want(jobs.leaf[slot]!, -jobs.gpusMilli[slot]!);
    jobs.state[slot] = jobState.none;
    this.lives.delete(slot);
    this.ranks.delete(slot);
    jobs.free(slot);
  }

  /** Groups of all queues under a root of the tree. */
  groupsUnder(root: number): readonly number[] {
    return this.byRoot.get(root) ?? [];
  }

  /** The job that has queued longest, if that is at least the aged threshold; -1 otherwise. */
  oldestAged(nowMs: number): Slot {
    const slot = this.byAge.peek();
    return slot >= 0 && this.jobs.queuedAt(slot, nowMs) >= this.policy.agedAfterMs ? slot : -1;
  }

  /** Score without the share term, at a time, in millidoublings. */
  baseScoreMd(slot: Slot, nowMs: number): number {
    const { jobs, policy } = this;
    const priority = this.groups[jobs.group[slot]!]!.priority * policy.priorityMd;
    if (jobs.state[slot] === jobState.waiting) return jobs.sizeMd[slot]! - priority;
    return this.sizeOf(slot, nowMs) - priority;
  }

  /** Whether the rules let a running job be stopped at all now: it can resume, has run long enough, may bear more. */
  mayBeVictim(slot: Slot, nowMs: number): boolean {
    const { jobs, policy } = this;
    if (jobs.inLane(slot) || !this.mayBeMoved(slot, nowMs)) return false;
    return jobs.preemptions[slot]! + 1 <= allowance(policy, this.runMs(slot, nowMs));
  }

  /** Whether a running job may be stopped and started elsewhere at once: it can resume and has run long enough. */
  mayBeMoved(slot: Slot, nowMs: number): boolean {
    const { jobs, policy } = this;
    return this.canBeStopped(slot) && nowMs - jobs.sinceMs[slot]! >= policy.minRunMs;
  }

  /** Whether a job runs and can resume: what rules there are about when it may be stopped set aside. */
  canBeStopped(slot: Slot): boolean {
    const { jobs } = this;
    return jobs.state[slot] === jobState.running && jobs.preemptible(slot);
  }

  private toWaiting(slot: Slot, nowMs: number): void {
    const { jobs } = this;
    jobs.state[slot] = jobState.waiting;
    jobs.sinceMs[slot] = nowMs;
    jobs.sizeMd[slot] = this.waitingSize(slot, nowMs);
    this.groups[jobs.group[slot]!]!.heap.push(slot);
    this.byAge.push(slot);
    this.waitingJobs++;
  }

  private waitingSize(slot: Slot, nowMs: number): number {
    const { jobs } = this;
    if (jobs.preemptible(slot)) return this.sizeOf(slot, nowMs);
    const attainedGpuMs = this.expected(slot);
    return unstoppableMd(this.policy, { attainedGpuMs, gpus: jobs.gpusMilli[slot]! / 1000 });
  }

  private sizeOf(slot: Slot, nowMs: number): number {
    const { jobs, policy } = this;
    const gpus = jobs.gpusMilli[slot]! / 1000;
    const rankMs = this.bends ? (this.ranks.get(slot) ?? this.lives.get(slot)?.rankMs) : undefined;
    const size = sizeMd(policy, { attainedGpuMs: jobs.attainedAt(slot, nowMs), gpus, rankMs });
    return waitedMd(policy, {
      sizeMd: size,
      gpus,
      sinceSubmitMs: nowMs - jobs.submitMs[slot]!,
      queuedMs: jobs.queuedAt(slot, nowMs),
    });
  }

  /** Run time attained on its GPUs, in milliseconds. */
  private runMs(slot: Slot, nowMs: number): number {
    const { jobs } = this;
    return (jobs.attainedAt(slot, nowMs) * 1000) / Math.max(1, jobs.gpusMilli[slot]!);
  }

  private get bends(): boolean {
    return this.policy.historyBoundMd > 0;
  }

  /** Whether what a waiting job has for a size changes without its doing. */
  private get changes(): boolean {
    const { lateMd, lateWideMd, dueAfterMs } = this.policy;
    return this.bends || lateMd > 0 || lateWideMd > 0 || dueAfterMs < neverMs;
  }

  /** What cannot be stopped takes all its service at once: it is ordered by what it is expected to take. */
  private expected(slot: Slot): number {
    const { jobs } = this;
    const predicted = jobs.predictedS[slot]! * jobs.gpusMilli[slot]!;
    return Math.max(jobs.attainedGpuMs[slot]!, predicted);
  }

  /** Takes a waiting job out of the heaps; its keys may change afterwards. */
  private unlist(slot: Slot): void {
    this.groups[this.jobs.group[slot]!]!.heap.remove(slot);
    this.byAge.remove(slot);
    this.waitingJobs--;
  }

  private vacate(slot: Slot): void {
    const { jobs, tree } = this;
    this.running.delete(slot);
    jobs.setLane(slot, false);
    tree.allocate(jobs.leaf[slot]!, -jobs.gpusMilli[slot]!);
  }

  private groupOf(job: NewJob): number {
    const { leaf, shape, priority, gpusMilli } = job;
    // Few groups have the same queue and shape.
    const key = leaf * 2 ** 26 + shape;
    const alike = this.groupIndex.get(key);
    for (const at of alike ?? []) {
      const group = this.groups[at]!;
      if (group.leaf !== leaf || group.shape !== shape) continue;
      if (group.priority === priority && group.gpusMilli === gpusMilli) return at;
    }
    const { jobs } = this;
    const heap = new IntHeap({
      before: (a, b) =>
        jobs.sizeMd[a]! < jobs.sizeMd[b]! ||
        (jobs.sizeMd[a] === jobs.sizeMd[b] &&
          (jobs.submitMs[a]! < jobs.submitMs[b]! ||
            (jobs.submitMs[a] === jobs.submitMs[b] && jobs.tie[a]! < jobs.tie[b]!))),
      places: () => jobs.groupPlace,
    });
    this.groups.push({ leaf, shape, priority, gpusMilli, heap });
    if (alike === undefined) this.groupIndex.set(key, [this.groups.length - 1]);
    else alike.push(this.groups.length - 1);
    const root = this.tree.rootOf(leaf);
    const siblings = this.byRoot.get(root);
    if (siblings === undefined) this.byRoot.set(root, [this.groups.length - 1]);
    else siblings.push(this.groups.length - 1);
    return this.groups.length - 1;
  }

  private assertState(slot: Slot, allowed: readonly number[], what: string): void {
    if (!allowed.includes(this.jobs.state[slot]!)) {
      throw new RangeError(`cannot ${what} job ${slot} in state ${this.jobs.state[slot]}`);
    }
  }
}
