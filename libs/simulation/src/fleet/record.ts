import type { ExitClass } from "@fastgpu/domain/states";
import { milliOfDemand } from "@fastgpu/scheduling/gpu-part";
import type { Attempt } from "./task-run.ts";
import type { TaskRun } from "./task-run.ts";
import { BucketSeries, Level } from "./series.ts";

/** Whose tasks are compared: an organisation, or a project where there is one organisation only. */
export interface TenantRecord {
  readonly name: string;
  readonly allocated: Level;
  readonly waitingGpus: Level;
  /** GPU-milliseconds by model that are billed. */
  readonly billedGpuMs: Map<string, number>;
  /** GPU-milliseconds by model that are refunded: lost to faults of the hardware. */
  readonly creditedGpuMs: Map<string, number>;
}

/** Where GPU time went, in GPU-milliseconds. */
export interface GpuTime {
  starting: number;
  restoring: number;
  useful: number;
  /** Done since the last checkpoint and not saved when it ended. */
  lost: number;
  stopping: number;
  /** Held for processes that were dead already. */
  dead: number;
}

/** What a run leaves behind; the report is made of it. */
export class FleetRecord {
  readonly startMs: number;
  readonly bucketMs: number;
  readonly capacity: Level;
  readonly allocated: Level;
  readonly waitingTasks: Level;
  readonly waitingGpus: Level;
  readonly stranded: Level;
  readonly useful: BucketSeries;
  readonly time: GpuTime = { starting: 0, restoring: 0, useful: 0, lost: 0, stopping: 0, dead: 0 };
  readonly tenants: readonly TenantRecord[];
  readonly ends = new Map<ExitClass, number>();
  preemptions = 0;
  /** GPU-milliseconds lost by preemptions: not saved, restored again, and while stopping. */
  preemptionGpuMs = 0;
  plans = 0;
  events = 0;
  leases = 0;

  constructor(options: { startMs: number; bucketMs: number; tenants: readonly string[] }) {
    const { startMs, bucketMs } = options;
    this.startMs = startMs;
    this.bucketMs = bucketMs;
    const level = (): Level => new Level(startMs, bucketMs);
    this.capacity = level();
    this.allocated = level();
    this.waitingTasks = level();
    this.waitingGpus = level();
    this.stranded = level();
    this.useful = new BucketSeries(startMs, bucketMs);
    this.tenants = options.tenants.map((name) => ({
      name,
      allocated: level(),
      waitingGpus: level(),
      billedGpuMs: new Map(),
      creditedGpuMs: new Map(),
    }));
  }

  /** An attempt took its GPUs, or gave them back. */
  hold(task: TaskRun, gpus: number, nowMs: number): void {
    this.allocated.change(nowMs, gpus);
    this.tenants[task.tenant]!.allocated.change(nowMs, gpus);
  }

  /** More or fewer GPUs of a task wait. */
  wait(task: TaskRun, by: { tasks: number; gpus: number }, nowMs: number): void {
    this.waitingTasks.change(nowMs, by.tasks);
    this.waitingGpus.change(nowMs, by.gpus);
    this.tenants[task.tenant]!.waitingGpus.change(nowMs, by.gpus);
  }

  /** Accounts for an attempt at its end: `keptMs` of its work counts, the rest is lost. */
  ended(attempt: Attempt, end: { class: ExitClass; nowMs: number; keptMs: number }): void {
    this.ends.set(end.class, (this.ends.get(end.class) ?? 0) + 1);
    this.account(attempt, end);
  }

  /** Accounts for an attempt that runs on when the run is cut off: all of its work counts. */
  cutOff(attempt: Attempt, nowMs: number): void {
    this.account(attempt, { class: undefined, nowMs, keptMs: attempt.doneMs(nowMs) });
  }

  private account(
    attempt: Attempt,
    end: { class: ExitClass | undefined; nowMs: number; keptMs: number },
  ): void {
    const { task, runningMs, leasedMs } = attempt;
    const { gpus } = task;
    const { nowMs, keptMs } = end;
    const deadMs = Math.min(nowMs, attempt.deadMs ?? nowMs);
    const workEndMs = Math.min(deadMs, attempt.stopping?.sinceMs ?? deadMs);
    const startedMs = Math.min(runningMs ?? workEndMs, workEndMs);
    const usefulMs = Math.max(startedMs, Math.min(attempt.usefulFromMs, workEndMs));
    this.time.starting += gpus * (startedMs - leasedMs);
    this.time.restoring += gpus * (usefulMs - startedMs);
    this.time.useful += gpus * keptMs;
    const lostMs = workEndMs - usefulMs - keptMs;
    this.time.lost += gpus * lostMs;
    this.time.stopping += gpus * (deadMs - workEndMs);
    this.time.dead += gpus * (nowMs - deadMs);
    this.useful.add(usefulMs, usefulMs + keptMs, gpus);
    if (end.class === "preempted") this.preemptionGpuMs += gpus * (lostMs + deadMs - workEndMs);
    if (runningMs !== undefined) this.bill(attempt, { class: end.class, deadMs, lostMs });
  }

  private bill(
    attempt: Attempt,
    end: { class: ExitClass | undefined; deadMs: number; lostMs: number },
  ): void {
    const { billedGpuMs, creditedGpuMs } = this.tenants[attempt.task.tenant]!;
    const gpus = milliOfDemand(attempt.task.spec.demand) / 1000;
    if (gpus === 0) return;
    const billedMs = end.deadMs - attempt.runningMs!;
    const byHardware = end.class === "node_lost" || end.class === "gpu_fault";
    for (const { spec } of attempt.nodes) {
      add(billedGpuMs, spec.model, gpus * billedMs);
      if (byHardware) add(creditedGpuMs, spec.model, gpus * end.lostMs);
    }
  }
}

function add(sums: Map<string, number>, key: string, amount: number): void {
  if (amount > 0) sums.set(key, (sums.get(key) ?? 0) + amount);
}
