import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import type { PlanUsage } from "@fastgpu/scheduling/plan";
import type { TaskRun } from "./task-run.ts";

interface Entry {
  readonly org: OrgId;
  readonly project: ProjectId;
  readonly user: string;
  gpus: number;
  gpuMs: number;
  atMs: number;
}

/** Service that each user of a project has had; what is older by a half-life counts half. */
export class UsageMeter {
  private readonly halfLifeMs: number;
  private readonly entries = new Map<string, Entry>();

  constructor(halfLifeMs: number) {
    this.halfLifeMs = halfLifeMs;
  }

  /** The owner of a task holds more or fewer GPUs from now on. */
  change(task: TaskRun, gpus: number, nowMs: number): void {
    if (gpus === 0) return;
    const { org, project } = task;
    const { user } = task.spec;
    const key = `${project} ${user}`;
    let entry = this.entries.get(key);
    if (entry === undefined) {
      entry = { org, project, user, gpus: 0, gpuMs: 0, atMs: nowMs };
      this.entries.set(key, entry);
    }
    this.settle(entry, nowMs);
    entry.gpus += gpus;
  }

  /** Everybody's decayed service as of a time. */
  at(nowMs: number): readonly PlanUsage[] {
    return Array.from(this.entries.values(), (entry) => {
      this.settle(entry, nowMs);
      const { org, project, user, gpuMs } = entry;
      return { org, project, user, gpuMs };
    });
  }

  /** The integral of gpus × 2^(−age / half-life) over the time passed, and the decay of what was there. */
  private settle(entry: Entry, nowMs: number): void {
    const passedMs = nowMs - entry.atMs;
    if (passedMs <= 0) return;
    const left = 2 ** (-passedMs / this.halfLifeMs);
    entry.gpuMs = entry.gpuMs * left + (entry.gpus * this.halfLifeMs * (1 - left)) / Math.LN2;
    entry.atMs = nowMs;
  }
}
