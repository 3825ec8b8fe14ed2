import { resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  ArraySpecSchema,
  ContainerSpecSchema,
  DependencyCondition,
  DependencySchema,
  GpuRequestSchema,
  InputSchema,
  ProcessSpecSchema,
  ResourcesSchema,
  RetrySpecSchema,
  SimulatedPolicy,
  type Task,
  TaskSchema,
  TaskSpecSchema,
  TopologyLevel,
  TopologySchema,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { MoneySchema } from "@fastgpu/contracts/fastgpu/type/v1/money_pb";
import { CliError } from "../errors/cli-error.ts";

/** What `task run` and `task create` take beside the command; parsed by commander. */
export interface SpecOptions {
  file?: string;
  image?: string;
  name?: string;
  env?: Record<string, string>;
  label?: Record<string, string>;
  workdir?: string;
  gpus?: number;
  gpuModel?: string[];
  gpuMemory?: bigint;
  cpu?: bigint;
  memory?: bigint;
  disk?: bigint;
  replicas?: number;
  within?: "node" | "nvlink" | "rack";
  spreadOver?: "node" | "rack";
  array?: number;
  parallel?: number;
  maxRuntime?: number;
  stopGrace?: number;
  simulated?: "allow" | "forbid";
  retries?: number;
  output?: string[];
  input?: string[];
  dependsOn?: string[];
  priority?: number;
  /** Milliseconds since the epoch. */
  startAfter?: number;
  preemptible?: boolean;
  maxCost?: bigint;
}

const CONDITIONS: Record<string, DependencyCondition> = {
  succeeded: DependencyCondition.SUCCEEDED,
  failed: DependencyCondition.FAILED,
  ended: DependencyCondition.ENDED,
};

/**
 * The task that the options describe, laid over `base` (a spec file's task, or an empty one):
 * an option wins over the file, environment, labels and lists are added to its own.
 * `nameOf` completes ids of tasks and artifacts to resource names.
 */
export function taskFromOptions(
  options: SpecOptions,
  command: readonly string[],
  {
    base,
    nameOf,
  }: { base?: Task | undefined; nameOf: (collection: "tasks" | "artifacts", id: string) => string },
): Task {
  const task = base ?? create(TaskSchema, {});
  const spec = (task.spec ??= create(TaskSpecSchema, {}));
  if (options.name !== undefined) task.displayName = options.name;
  Object.assign(task.labels, options.label);
  Object.assign(spec.env, options.env);

  applyRuntime(spec, options, command);
  applyResources(spec, options);
  applyGang(spec, options);
  if (options.array !== undefined || options.parallel !== undefined) {
    const array = (spec.array ??= create(ArraySpecSchema, {}));
    if (options.array !== undefined) array.count = options.array;
    if (options.parallel !== undefined) array.parallelism = options.parallel;
    if (array.count === 0)
      throw new CliError("--parallel without an array", { hint: "--array N --parallel M" });
  }
  if (options.maxRuntime !== undefined) spec.maxRuntime = durationFromMs(options.maxRuntime);
  if (options.stopGrace !== undefined) spec.stopGrace = durationFromMs(options.stopGrace);
  if (options.simulated !== undefined) {
    spec.simulated =
      options.simulated === "forbid" ? SimulatedPolicy.FORBID : SimulatedPolicy.ALLOW;
  }
  if (options.retries !== undefined) {
    spec.retry ??= create(RetrySpecSchema, {});
    spec.retry.maxRetries = options.retries;
  }
  if (options.priority !== undefined) spec.priority = options.priority;
  if (options.startAfter !== undefined) spec.startAfter = timestampFromMs(options.startAfter);
  if (options.preemptible !== undefined) spec.preemptible = options.preemptible;
  if (options.maxCost !== undefined) {
    spec.maxCost = create(MoneySchema, { currency: "USD", nanos: options.maxCost });
  }
  spec.outputs.push(...(options.output ?? []));
  spec.inputs.push(...(options.input ?? []).map((text) => inputOf(text, nameOf)));
  spec.dependsOn.push(...(options.dependsOn ?? []).map((text) => dependencyOf(text, nameOf)));
  return task;
}

type Spec = NonNullable<Task["spec"]>;

function applyRuntime(spec: Spec, options: SpecOptions, command: readonly string[]): void {
  const { image, workdir } = options;
  if (image !== undefined) {
    const before =
      spec.runtime.case === "container" ? spec.runtime.value : create(ContainerSpecSchema, {});
    before.image = image;
    spec.runtime = { case: "container", value: before };
  } else if (spec.runtime.case === undefined && command.length > 0) {
    spec.runtime = { case: "process", value: create(ProcessSpecSchema, {}) };
  }
  if (spec.runtime.case === undefined) {
    throw new CliError("there is nothing to run", {
      why: "neither a command after --, nor an image, nor a spec file is given",
      hint: "fastgpu task run --gpus 1 -- CMD…, or --image IMAGE -- CMD…, or -f task.yaml",
    });
  }
  if (command.length > 0) spec.runtime.value.command = [...command];
  if (workdir === undefined) return;
  // A container's directory is its own; a process's is on this machine, where there is but one.
  spec.runtime.value.workingDir = spec.runtime.case === "process" ? resolve(workdir) : workdir;
}

const PLACES = {
  node: TopologyLevel.NODE,
  nvlink: TopologyLevel.NVLINK,
  rack: TopologyLevel.RACK,
} as const;

function applyGang(spec: Spec, { replicas, within, spreadOver }: SpecOptions): void {
  if (replicas !== undefined) spec.replicas = replicas;
  if (within === undefined && spreadOver === undefined) return;
  if (spec.replicas < 2) {
    const option = within === undefined ? "--spread-over" : "--within";
    throw new CliError(`${option} without a gang`, { hint: `--replicas N ${option} PLACE` });
  }
  const topology = (spec.topology ??= create(TopologySchema, {}));
  if (within !== undefined) topology.within = PLACES[within];
  if (spreadOver !== undefined) topology.spreadOver = PLACES[spreadOver];
}

function applyResources(spec: Spec, options: SpecOptions): void {
  const { gpus, gpuModel, gpuMemory, cpu, memory, disk } = options;
  const resources = (spec.resources ??= create(ResourcesSchema, {}));
  if (gpus !== undefined || gpuModel !== undefined || gpuMemory !== undefined) {
    // Naming a model or a memory without a number means one GPU.
    const gpu = (resources.gpu ??= create(GpuRequestSchema, { count: 1 }));
    if (gpus !== undefined) gpu.count = gpus;
    if (gpuModel !== undefined) gpu.models = gpuModel;
    if (gpuMemory !== undefined) gpu.minMemoryMib = gpuMemory;
  }
  if (cpu !== undefined) resources.cpuMillis = cpu;
  if (memory !== undefined) resources.memoryMib = memory;
  if (disk !== undefined) resources.diskMib = disk;
}

function inputOf(text: string, nameOf: (collection: "artifacts", id: string) => string) {
  const at = text.lastIndexOf(":");
  if (at < 1 || at === text.length - 1) {
    throw new CliError(`--input ${text}: ARTIFACT:PATH is wanted`, {
      hint: "fastgpu data list shows the artifacts",
    });
  }
  return create(InputSchema, {
    artifact: nameOf("artifacts", text.slice(0, at)),
    path: text.slice(at + 1),
  });
}

function dependencyOf(text: string, nameOf: (collection: "tasks", id: string) => string) {
  const [task = "", word = "succeeded"] = text.split(":");
  const condition = CONDITIONS[word];
  if (condition === undefined) {
    throw new CliError(`--depends-on ${text}: "${word}" is not a condition`, {
      why: `it can be ${Object.keys(CONDITIONS).join(", ")}`,
    });
  }
  return create(DependencySchema, { task: nameOf("tasks", task), condition });
}
