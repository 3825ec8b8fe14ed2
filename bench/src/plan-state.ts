/** A full fleet with a long line for the bench of one plan: drawn from a seed, changed by parts. */
import type { AttemptId, GpuId, NodeId, OrgId, ProjectId, TaskId } from "@fastgpu/domain/ids";
import {
  plainTask,
  type PlanGpu,
  type PlanLease,
  type PlanNode,
  type PlanQueue,
  type PlanState,
  type PlanTask,
} from "@fastgpu/scheduling/plan";
import { seededRng } from "@fastgpu/scheduling/seeded-rng";

/** What is drawn. */
export interface SceneOptions {
  /** GPUs in all, on nodes of eight. */
  readonly gpus: number;
  readonly tasks: number;
  /** Projects; ten make an organisation. */
  readonly queues: number;
  /** Part of the running attempts that can be stopped. */
  readonly preemptible: number;
  /** Part of the GPUs that nobody holds. */
  readonly free: number;
  /** Part of the running attempts that have no end. */
  readonly endless: number;
  readonly seed: number;
}

const gpusPerNode = 8;
const models = ["H100", "A100", "L40S"];
const widths = [1, 1, 1, 1, 2, 2, 4, 8];
const users = 2;
const hourMs = 3_600_000;
/** The time of the first plan. */
export const startMs = 1_000 * hourMs;

const padded = (value: number): string => String(value).padStart(6, "0");
const ownerOf = (queue: number, user: number) => ({
  org: `org-${padded(Math.floor(queue / 10))}` as OrgId,
  project: `proj-${padded(queue)}` as ProjectId,
  user: `user-${user}`,
});

/** A fleet whose nodes are new objects only where something changed, as the leader's picture of the database is. */
export class PlanScene {
  readonly nodes: PlanNode[];
  readonly tasks: readonly PlanTask[];
  private readonly queues: readonly PlanQueue[];
  private readonly options: SceneOptions;
  private readonly draw: () => number;
  private attempts = 0;

  constructor(options: SceneOptions) {
    this.options = options;
    this.draw = seededRng(options.seed);
    const nodes = Math.max(1, Math.round(options.gpus / gpusPerNode));
    this.nodes = Array.from({ length: nodes }, (_, at) => this.node(at));
    this.tasks = Array.from({ length: options.tasks }, (_, at) => this.task(at));
    // Every third project has a limit somewhat above its even share.
    this.queues = Array.from({ length: options.queues }, (_, queue) => ({
      ...ownerOf(queue, 0),
      user: undefined,
      weight: 1 + (queue % 4),
      guaranteedGpus: 0,
      limitGpus: queue % 3 === 0 ? Math.ceil((1.5 * options.gpus) / options.queues) : undefined,
      models: {},
    }));
  }

  /** The state as a fresh list, of the same objects. */
  state(): PlanState {
    return {
      nodes: [...this.nodes],
      tasks: [...this.tasks],
      queues: this.queues,
      usage: Array.from({ length: this.options.queues }, (_, queue) => ({
        ...ownerOf(queue, queue % users),
        gpuMs: (1 + (queue % 7)) * hourMs,
      })),
      reservations: [],
    };
  }

  /** On so many nodes the oldest lease ends and another starts in its place; all of them are new objects. */
  change(count: number, nowMs: number): void {
    const from = Math.floor(this.draw() * this.nodes.length);
    for (let n = 0; n < count; n++) {
      const at = (from + n) % this.nodes.length;
      const node = this.nodes[at]!;
      const [oldest, ...others] = node.running;
      if (oldest === undefined) continue;
      const fresh = { ...this.lease(oldest.gpus, nowMs), runningSinceMs: nowMs };
      this.nodes[at] = { ...node, running: [...others, fresh] };
    }
  }

  private pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.draw() * list.length)]!;
  }

  private node(at: number): PlanNode {
    const id = `node-${padded(at)}` as NodeId;
    const running: PlanLease[] = [];
    const ids = Array.from(
      { length: gpusPerNode },
      (_, gpu) => `gpu-${padded(at)}-${gpu}` as GpuId,
    );
    const taken = new Set<GpuId>();
    for (let next = 0; next < gpusPerNode;) {
      const width = Math.min(gpusPerNode - next, this.pick(widths));
      const gpus = ids.slice(next, next + width);
      next += width;
      if (this.draw() < this.options.free) continue;
      for (const gpu of gpus) taken.add(gpu);
      running.push(this.lease(gpus, startMs));
    }
    return {
      id,
      name: padded(at),
      acceptsWork: true,
      runtimes: ["container", "process"],
      cpuMillis: 128_000,
      memoryMib: 1_048_576,
      diskMib: 4_194_304,
      gpus: ids.map((gpu): PlanGpu => ({
        id: gpu,
        model: models[at % models.length]!,
        memoryMib: 81_920,
        simulated: false,
        free: !taken.has(gpu),
        reservedFor: undefined,
      })),
      topology: { rack: `rack-${padded(Math.floor(at / 16))}` },
      running,
    };
  }

  private lease(gpus: readonly GpuId[], nowMs: number): PlanLease {
    const id = padded(this.attempts++);
    const heldSinceMs = nowMs - Math.floor(this.draw() * 48 * hourMs);
    return {
      attempt: `att-${id}` as AttemptId,
      member: 0,
      task: `task-run-${id}` as TaskId,
      ...this.owner(),
      cpuMillis: gpus.length * 8_000,
      memoryMib: gpus.length * 65_536,
      diskMib: gpus.length * 65_536,
      gpus,
      priority: 0,
      submittedMs: heldSinceMs - Math.floor(this.draw() * hourMs),
      heldSinceMs,
      runningSinceMs: heldSinceMs + 10_000,
      savedMs: this.draw() < 0.8 ? Math.max(heldSinceMs, nowMs - this.draw() * hourMs) : undefined,
      attainedGpuMs: this.draw() < 0.5 ? 0 : Math.floor(this.draw() * 100 * hourMs),
      preemptions: 0,
      preemptible: this.draw() < this.options.preemptible,
      stopping: false,
      endsByMs:
        this.draw() < this.options.endless ? Number.POSITIVE_INFINITY : heldSinceMs + 72 * hourMs,
    };
  }

  private owner() {
    return ownerOf(Math.floor(this.draw() * this.options.queues), Math.floor(this.draw() * users));
  }

  private task(at: number): PlanTask {
    const replicas = this.draw() < 0.05 ? this.pick([2, 4]) : 1;
    const gpuCount = replicas > 1 ? gpusPerNode : this.draw() < 0.05 ? 0 : this.pick(widths);
    const cores = this.pick([4, 8, 12, 16]) * Math.max(1, gpuCount);
    return {
      ...plainTask,
      id: `task-${padded(at)}` as TaskId,
      ...this.owner(),
      epoch: 0,
      priority: 0,
      submittedMs: startMs - Math.floor(this.draw() * 24 * hourMs),
      notBeforeMs: 0,
      demand: {
        runtime: "container",
        gpuCount,
        gpuModels: this.draw() < 0.5 ? [] : [this.pick(models)],
        gpuMinMemoryMib: 0,
        simulatedOk: false,
        cpuMillis: cores * 1_000,
        memoryMib: cores * 8_192,
        diskMib: cores * 8_192,
      },
      replicas,
      preemptible: this.draw() < 0.5,
      maxRuntimeMs: this.pick([1, 8, 24, 48]) * hourMs,
      stopGraceMs: 30_000,
      excludedGpus: [],
      array: undefined,
    };
  }
}
