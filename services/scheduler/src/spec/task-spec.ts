import { create, toBinary } from "@bufbuild/protobuf";
import { durationFromMs, durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  ArraySpecSchema,
  ResourcesSchema,
  RetrySpecSchema,
  SimulatedPolicy,
  TaskSpecSchema,
  type Dependency,
  type Task,
  type TaskSpec,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { DependencyCondition } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import { parseId, type ProjectId, type TaskId } from "@fastgpu/domain/ids";
import { defaultRetryOn, type RetryPolicy } from "@fastgpu/domain/retry";
import type { Demand, Topology } from "@fastgpu/scheduling/plan";
import { exitClassFromWire, exitClassToWire } from "../api/wire-states.ts";
import { parseGang } from "./gang.ts";
import { artifactOf } from "./input.ts";

/** Limits of a task beyond those in the proto; docs/limits.md states them. */
export const specLimits = {
  /** The whole spec, serialized, in bytes. */
  specBytes: 256 * 1024,
  /** Names and values of the environment together, in bytes. */
  envBytes: 128 * 1024,
  /** How far ahead a start may be asked for, in days. */
  startAfterDays: 366,
} as const;

const defaults = {
  cpuMillis: 1_000,
  memoryMib: 512,
  maxRuntimeMs: 24 * 3_600_000,
  stopGraceMs: 10_000,
  maxRetries: 3,
} as const;

/** Variables that would reach into the worker's loader or GPU set-up. */
const refusedEnv = ["LD_", "CUDA_MPS_", "NVIDIA_"];

/** What a task of the same project must become before this one may start. */
export interface ParsedDependency {
  readonly parent: TaskId;
  readonly condition: "SUCCEEDED" | "FAILED" | "ENDED";
}

/** A task that was checked and has its defaults filled in. */
export interface ParsedTask {
  readonly displayName: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The spec with defaults, serialized: what the worker gets. */
  readonly spec: Uint8Array;
  readonly demand: Demand;
  /** Members of a gang; 1: a plain task. */
  readonly replicas: number;
  readonly topology: Topology;
  readonly priority: number;
  readonly retry: RetryPolicy;
  readonly maxRuntimeMs: number;
  readonly stopGraceMs: number;
  readonly array: { readonly count: number; readonly parallelism: number } | undefined;
  readonly dependencies: readonly ParsedDependency[];
  /** Whether it may be stopped in favour of others. */
  readonly preemptible: boolean;
  /** The most that all attempts may cost together, in nano-USD. */
  readonly maxCostNanos?: bigint | undefined;
  /** Not started before; 0 where it may start at once. */
  readonly startAfterMs: number;
}

/**
 * Checks what protovalidate's rules cannot and fills in the defaults.
 * Throws a Fault that names the field: INVALID_FIELD or LIMIT_EXCEEDED.
 */
export function parseTask(task: Task, at: { project: ProjectId; nowMs: number }): ParsedTask {
  const { project } = at;
  const spec = task.spec;
  if (spec === undefined) throw Fault.invalid("task.spec", "is required");
  checkEnv(spec.env);
  checkPaths(spec, project);
  checkDependencies(spec);
  const filled = withDefaults(spec);
  const bytes = toBinary(TaskSpecSchema, filled);
  if (bytes.length > specLimits.specBytes) {
    throw limit("task.spec", `is ${bytes.length} bytes, at most ${specLimits.specBytes}`);
  }
  const array = filled.array;
  return {
    displayName: task.displayName,
    labels: task.labels,
    spec: bytes,
    demand: demandOf(filled),
    ...parseGang(filled),
    priority: filled.priority,
    retry: {
      maxRetries: filled.retry?.maxRetries ?? defaults.maxRetries,
      retryOn: (filled.retry?.retryOn ?? []).map(exitClassFromWire),
    },
    maxRuntimeMs: filled.maxRuntime === undefined ? 0 : durationMs(filled.maxRuntime),
    stopGraceMs: filled.stopGrace === undefined ? 0 : durationMs(filled.stopGrace),
    array:
      array === undefined
        ? undefined
        : { count: array.count, parallelism: array.parallelism || array.count },
    dependencies: spec.dependsOn.map((dependency, n) => parseDependency(dependency, project, n)),
    preemptible: filled.preemptible,
    maxCostNanos: maxCostOf(filled),
    startAfterMs: startAfterMs(spec, at.nowMs),
  };
}

function startAfterMs({ startAfter }: TaskSpec, nowMs: number): number {
  if (startAfter === undefined) return 0;
  const ms = timestampMs(startAfter);
  if (!(ms <= nowMs + specLimits.startAfterDays * 86_400_000)) {
    const field = "task.spec.start_after";
    throw Fault.invalid(field, `must be within ${specLimits.startAfterDays} days from now`);
  }
  return ms > nowMs ? ms : 0;
}

function withDefaults(spec: TaskSpec): TaskSpec {
  const retryOn = spec.retry?.retryOn ?? [];
  return create(TaskSpecSchema, {
    ...spec,
    resources: create(ResourcesSchema, {
      ...(spec.resources?.gpu === undefined ? {} : { gpu: spec.resources.gpu }),
      diskMib: spec.resources?.diskMib ?? 0n,
      cpuMillis: spec.resources?.cpuMillis || BigInt(defaults.cpuMillis),
      memoryMib: spec.resources?.memoryMib || BigInt(defaults.memoryMib),
    }),
    ...(spec.array === undefined ? {} : { array: create(ArraySpecSchema, spec.array) }),
    retry: create(RetrySpecSchema, {
      maxRetries: spec.retry?.maxRetries ?? defaults.maxRetries,
      retryOn: retryOn.length > 0 ? retryOn : defaultRetryOn.map(exitClassToWire),
    }),
    maxRuntime: spec.maxRuntime ?? durationFromMs(defaults.maxRuntimeMs),
    stopGrace: spec.stopGrace ?? durationFromMs(defaults.stopGraceMs),
    simulated:
      spec.simulated === SimulatedPolicy.UNSPECIFIED ? SimulatedPolicy.ALLOW : spec.simulated,
  });
}

function demandOf(spec: TaskSpec): Demand {
  const gpu = spec.resources?.gpu;
  checkModels(gpu?.models ?? []);
  if (gpu !== undefined && gpu.count === 0 && (gpu.models.length > 0 || gpu.minMemoryMib > 0n)) {
    throw Fault.invalid(
      "task.spec.resources.gpu.count",
      "must be at least 1 where models or memory of a GPU are asked for",
    );
  }
  return {
    runtime: spec.runtime.case === "container" ? "container" : "process",
    gpuCount: gpu?.count ?? 0,
    gpuModels: gpu?.models ?? [],
    gpuMinMemoryMib: Number(gpu?.minMemoryMib ?? 0n),
    simulatedOk: spec.simulated !== SimulatedPolicy.FORBID,
    cpuMillis: Number(spec.resources?.cpuMillis ?? 0n),
    memoryMib: Number(spec.resources?.memoryMib ?? 0n),
    diskMib: Number(spec.resources?.diskMib ?? 0n),
  };
}

function checkModels(models: readonly string[]): void {
  for (const [at, model] of models.entries()) {
    const field = `task.spec.resources.gpu.models[${at}]`;
    if (model.trim() !== model || /\p{Cc}/u.test(model)) {
      throw Fault.invalid(field, "must be a model as `fastgpu gpu list` shows it");
    }
    if (models.indexOf(model) !== at) throw Fault.invalid(field, "is named twice");
  }
}

function checkEnv(env: Readonly<Record<string, string>>): void {
  let bytes = 0;
  for (const [name, value] of Object.entries(env)) {
    const prefix = refusedEnv.find((each) => name.startsWith(each));
    if (prefix !== undefined) {
      throw Fault.invalid(
        `task.spec.env["${name}"]`,
        `variables that begin with ${prefix} are refused`,
      );
    }
    if (value.includes("\0")) throw Fault.invalid(`task.spec.env["${name}"]`, "holds a zero byte");
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value);
  }
  if (bytes > specLimits.envBytes) {
    throw limit("task.spec.env", `is ${bytes} bytes, at most ${specLimits.envBytes}`);
  }
}

/** Greatest `max_cost`: a million USD, as much as one credit can add. */
const maxCostLimitNanos = 1_000_000_000_000_000n;

function maxCostOf({ maxCost }: TaskSpec): bigint | undefined {
  if (maxCost === undefined) return undefined;
  const { currency, nanos } = maxCost;
  if (currency !== "" && currency !== "USD") {
    throw Fault.invalid("task.spec.max_cost.currency", "must be USD");
  }
  if (nanos <= 0n || nanos > maxCostLimitNanos) {
    throw Fault.invalid("task.spec.max_cost.nanos", "must be above 0 and at most 1,000,000 USD");
  }
  return nanos;
}

function checkPaths(spec: TaskSpec, project: ProjectId): void {
  const { runtime } = spec;
  const dir = runtime.value?.workingDir ?? "";
  if (dir !== "" && !dir.startsWith("/")) {
    throw Fault.invalid(`task.spec.${runtime.case}.working_dir`, "must be an absolute path");
  }
  for (const [at, word] of (runtime.value?.command ?? []).entries()) {
    const field = `task.spec.${runtime.case}.command[${at}]`;
    if (word.includes("\0")) throw Fault.invalid(field, "holds a zero byte");
    if (at === 0 && word === "") throw Fault.invalid(field, "names no program");
  }
  for (const [at, pattern] of spec.outputs.entries()) {
    checkRelative(`task.spec.outputs[${at}]`, pattern);
  }
  for (const [at, input] of spec.inputs.entries()) {
    const field = `task.spec.inputs[${at}]`;
    checkRelative(`${field}.path`, input.path);
    if (artifactOf(input, project) === undefined) {
      throw Fault.invalid(
        `${field}.artifact`,
        "must be projects/{project}/artifacts/{artifact}, of the task's own project",
      );
    }
  }
}

function checkDependencies(spec: TaskSpec): void {
  const seen = new Set<string>();
  for (const [at, { task }] of spec.dependsOn.entries()) {
    if (seen.has(task)) throw Fault.invalid(`task.spec.depends_on[${at}].task`, "is named twice");
    seen.add(task);
  }
}

function checkRelative(field: string, path: string): void {
  if (path.startsWith("/") || path.split("/").includes("..")) {
    throw Fault.invalid(field, "must stay below its directory: no leading / and no ..");
  }
}

const conditionOf: Readonly<Record<DependencyCondition, ParsedDependency["condition"]>> = {
  [DependencyCondition.UNSPECIFIED]: "SUCCEEDED",
  [DependencyCondition.SUCCEEDED]: "SUCCEEDED",
  [DependencyCondition.FAILED]: "FAILED",
  [DependencyCondition.ENDED]: "ENDED",
};

function parseDependency(dependency: Dependency, project: ProjectId, at: number): ParsedDependency {
  const field = `task.spec.depends_on[${at}].task`;
  const [projects, parentProject, tasks, id, ...rest] = dependency.task.split("/");
  if (projects !== "projects" || tasks !== "tasks" || id === undefined || rest.length > 0) {
    throw Fault.invalid(field, "must be projects/{project}/tasks/{task}");
  }
  if (parentProject !== project) throw Fault.invalid(field, "must be a task of the same project");
  const parent = parseId("task", id);
  if (parent === undefined) throw Fault.invalid(field, `${id} is not a task id`);
  return { parent, condition: conditionOf[dependency.condition] ?? "SUCCEEDED" };
}

function limit(field: string, description: string): Fault {
  return new Fault("LIMIT_EXCEEDED", `${field} ${description}`, {
    violations: [{ field, description }],
  });
}
