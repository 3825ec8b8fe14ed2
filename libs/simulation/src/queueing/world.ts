import { EventHeap } from "../event-heap.ts";
import type { EventHandle } from "../event-heap.ts";
import { VirtualClock } from "../virtual-clock.ts";
import type { JobOutcome, SimJob } from "./job.ts";
import type { Pool } from "./pool.ts";

/** Decides over the queue of a world. Jobs are named by their index in the trace. */
export interface QueuePolicy {
  /** Longest time between two plans while jobs wait; Infinity: only events cause one. */
  readonly tickMs: number;
  arrive(job: number, nowMs: number): void;
  end(job: number, nowMs: number): void;
  /** Starts and stops through the world. Called once per instant at which something happened. */
  plan(nowMs: number): void;
}

/** What a tenant has and wants at one time. */
export interface TenantUse {
  runningGpus: number;
  /** Running and waiting. */
  wantedGpus: number;
}

/** Settings of a world. */
export interface WorldOptions {
  readonly jobs: readonly SimJob[];
  readonly pool: Pool;
  /** Run time that each preemption costs on the restore, in milliseconds. */
  readonly restoreChargeMs: number;
  /** Called after each plan, with the time. */
  readonly observe?: (nowMs: number) => void;
}

type WorldEvent = { readonly kind: "arrive" | "end"; readonly job: number };

/** A simulated fleet: jobs arrive, run for their (hidden) duration, lose the restore charge at each preemption. */
export class World {
  readonly jobs: readonly SimJob[];
  readonly pool: Pool;
  readonly clock: VirtualClock;
  readonly restoreChargeMs: number;
  readonly outcomes: (JobOutcome | undefined)[];
  readonly tenants = new Map<string, TenantUse>();
  waiting = 0;
  waitingGpus = 0;
  /** GPU-milliseconds spent on restores. */
  chargedGpuMs = 0;
  preemptions = 0;
  private readonly observe: (nowMs: number) => void;
  private readonly events = new EventHeap<WorldEvent>();
  private readonly endEvent = new Map<number, EventHandle>();
  private readonly doneMs: Float64Array;
  private readonly usefulFromMs: Float64Array;
  private readonly firstStartMs: Float64Array;
  private readonly stops: Int32Array;

  constructor(options: WorldOptions) {
    this.jobs = options.jobs;
    this.pool = options.pool;
    this.restoreChargeMs = options.restoreChargeMs;
    this.observe = options.observe ?? (() => {});
    this.clock = new VirtualClock(options.jobs[0]?.submitMs ?? 0);
    this.outcomes = options.jobs.map(() => undefined);
    this.doneMs = new Float64Array(options.jobs.length);
    this.usefulFromMs = new Float64Array(options.jobs.length);
    this.firstStartMs = new Float64Array(options.jobs.length).fill(-1);
    this.stops = new Int32Array(options.jobs.length);
    for (const [job, { submitMs }] of options.jobs.entries()) {
      this.events.add(submitMs, { kind: "arrive", job });
    }
  }

  /** Runs until every job has ended. Throws where a policy leaves jobs waiting for ever. */
  run(policy: QueuePolicy): void {
    let nextTickMs = Number.POSITIVE_INFINITY;
    while (this.events.size > 0) {
      const nowMs = Math.min(this.events.nextMs(), nextTickMs);
      this.clock.advanceTo(nowMs);
      while (this.events.nextMs() === nowMs) this.happen(this.events.pop()!.event, policy);
      if (this.waiting > 0) policy.plan(nowMs);
      this.observe(nowMs);
      if (this.waiting === 0) nextTickMs = Number.POSITIVE_INFINITY;
      else if (nextTickMs <= nowMs || nextTickMs === Number.POSITIVE_INFINITY) {
        nextTickMs = nowMs + policy.tickMs;
      }
    }
    if (this.waiting > 0) throw new Error(`${this.waiting} jobs wait and nothing runs`);
  }

  /** Run time attained by a job, without restores, in milliseconds. */
  attainedMs(job: number): number {
    if (!this.endEvent.has(job)) return this.doneMs[job]!;
    return this.doneMs[job]! + Math.max(0, this.clock.nowMs() - this.usefulFromMs[job]!);
  }

  /** A job whose GPUs have been taken from the pool begins to run; answers from when its work is useful. */
  began(job: number): number {
    const nowMs = this.clock.nowMs();
    const { gpus, durationMs } = this.jobs[job]!;
    const charge = this.doneMs[job]! > 0 || this.stops[job]! > 0 ? this.restoreChargeMs : 0;
    this.chargedGpuMs += charge * gpus;
    const usefulMs = nowMs + charge;
    this.usefulFromMs[job] = usefulMs;
    if (this.firstStartMs[job]! < 0) this.firstStartMs[job] = nowMs;
    const endMs = usefulMs + durationMs - this.doneMs[job]!;
    this.endEvent.set(job, this.events.add(endMs, { kind: "end", job }));
    this.waiting--;
    this.waitingGpus -= gpus;
    this.use(job, gpus, 0);
    return usefulMs;
  }

  /** A running job whose GPUs have been given back to the pool waits again. */
  stopped(job: number): void {
    const attained = this.attainedMs(job);
    this.events.cancel(this.endEvent.get(job)!);
    this.endEvent.delete(job);
    this.doneMs[job] = attained;
    this.stops[job]!++;
    this.preemptions++;
    this.waiting++;
    this.waitingGpus += this.jobs[job]!.gpus;
    this.use(job, -this.jobs[job]!.gpus, 0);
  }

  private use(job: number, running: number, wanted: number): void {
    const { tenant } = this.jobs[job]!;
    let use = this.tenants.get(tenant);
    if (use === undefined) {
      use = { runningGpus: 0, wantedGpus: 0 };
      this.tenants.set(tenant, use);
    }
    use.runningGpus += running;
    use.wantedGpus += wanted;
  }

  private happen(event: WorldEvent, policy: QueuePolicy): void {
    const { job } = event;
    const nowMs = this.clock.nowMs();
    switch (event.kind) {
      case "arrive":
        this.waiting++;
        this.waitingGpus += this.jobs[job]!.gpus;
        this.use(job, 0, this.jobs[job]!.gpus);
        policy.arrive(job, nowMs);
        return;
      case "end":
        this.endEvent.delete(job);
        this.pool.release(job);
        this.use(job, -this.jobs[job]!.gpus, -this.jobs[job]!.gpus);
        this.outcomes[job] = {
          endMs: nowMs,
          firstStartMs: this.firstStartMs[job]!,
          preemptions: this.stops[job]!,
        };
        policy.end(job, nowMs);
        return;
    }
  }
}
