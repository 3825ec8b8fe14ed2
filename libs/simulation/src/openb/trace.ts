/**
 * Reader for Alibaba's cluster-trace-gpu-v2023 ("openb"): a list of nodes and lists of pods.
 * Pod lists differ in columns: some name allowed GPU models (gpu_spec) and times, some do not.
 */
import { readCsv } from "./csv.ts";
import type { CsvResult, Fields } from "./csv.ts";
import { maxGpusPerNode } from "@fastgpu/scheduling/placement/shapes";

/** One machine: all its GPUs are of one model. */
export interface OpenbNode {
  readonly id: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly gpus: number;
  /** Empty where the machine has no GPU. */
  readonly model: string;
}

/** One pod: no GPU, a share of one GPU, or whole GPUs. */
export interface OpenbPod {
  readonly name: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly gpus: number;
  /** Thousandths of each GPU; 0 without GPUs. */
  readonly gpuMilli: number;
  /** Allowed models, sorted and distinct; null allows all. */
  readonly models: readonly string[] | null;
}

/** When a pod came and how long it ran, for lists that say so. */
export interface OpenbPodTimes {
  readonly createdMs: number;
  /** From the start, or where it never started from the creation, to the deletion; at least a second. */
  readonly runMs: number;
  /** Class of service, for example LS or BE; "none" where the list has none. */
  readonly qos: string;
}

const maxAmount = 2 ** 31 - 1;

/** Parses a node list (columns sn, cpu_milli, memory_mib, gpu, model). */
export function readOpenbNodes(file: string, text: string): CsvResult<OpenbNode> {
  const seen = new Set<string>();
  const required = ["sn", "cpu_milli", "memory_mib", "gpu", "model"];
  return readCsv({ file, text, required }, (fields) => {
    const id = fields.text("sn");
    if (id === "") fields.refuse("sn", "is empty");
    if (seen.has(id)) fields.refuse("sn", `"${id}" occurs twice`);
    seen.add(id);
    const gpus = fields.integer("gpu", 0, maxGpusPerNode);
    const model = fields.text("model");
    if (gpus > 0 && model === "") fields.refuse("model", "is empty on a node with GPUs");
    return {
      id,
      cpuMillis: fields.integer("cpu_milli", 0, maxAmount),
      memoryMib: fields.integer("memory_mib", 0, maxAmount),
      gpus,
      model,
    };
  });
}

/** Parses a pod list (columns name, cpu_milli, memory_mib, num_gpu, gpu_milli; gpu_spec if there). */
export function readOpenbPods(file: string, text: string): CsvResult<OpenbPod> {
  const required = ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"];
  return readCsv({ file, text, required }, readPod);
}

/** Parses a pod list that has times as well (columns creation_time and deletion_time, in seconds; scheduled_time, qos). */
export function readTimedOpenbPods(
  file: string,
  text: string,
): CsvResult<OpenbPod & OpenbPodTimes> {
  const required = ["name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli"];
  required.push("creation_time", "deletion_time");
  return readCsv({ file, text, required }, (fields) => {
    const createdMs = fields.integer("creation_time", 0, maxAmount) * 1000;
    const deletedMs = fields.integer("deletion_time", 0, maxAmount) * 1000;
    const started = fields.has("scheduled_time") && fields.text("scheduled_time") !== "";
    const startedMs = started ? fields.integer("scheduled_time", 0, maxAmount) * 1000 : createdMs;
    if (deletedMs < createdMs) fields.refuse("deletion_time", "is before the creation");
    const runMs = Math.max(1_000, deletedMs - Math.max(createdMs, Math.min(startedMs, deletedMs)));
    const qos = fields.has("qos") ? fields.text("qos") : "";
    return { ...readPod(fields), createdMs, runMs, qos: qos === "" ? "none" : qos };
  });
}

function readPod(fields: Fields): OpenbPod {
  const gpus = fields.integer("num_gpu", 0, maxGpusPerNode);
  const none = gpus === 0 && fields.text("gpu_milli") === "";
  const gpuMilli = none ? 0 : fields.integer("gpu_milli", 0, 1000);
  if (gpus > 0 && gpuMilli === 0) fields.refuse("gpu_milli", "is 0 for a pod with GPUs");
  if (gpus > 1 && gpuMilli !== 1000) {
    fields.refuse("gpu_milli", `is ${gpuMilli} for a pod of ${gpus} GPUs; only 1000 is possible`);
  }
  const spec = fields.has("gpu_spec") ? fields.text("gpu_spec") : "";
  const named = [...new Set(spec.split("|").map((model) => model.trim()))].filter(Boolean);
  return {
    name: fields.text("name"),
    cpuMillis: fields.integer("cpu_milli", 0, maxAmount),
    memoryMib: fields.integer("memory_mib", 0, maxAmount),
    gpus,
    gpuMilli: gpus === 0 ? 0 : gpuMilli,
    models: gpus === 0 || named.length === 0 ? null : named.sort(),
  };
}

/** The workload's name: the pod file's name without directory, `openb_pod_list_` and `.csv`. */
export function workloadName(file: string): string {
  return (file.split(/[\\/]/).at(-1) ?? file).replace(/\.csv$/, "").replace(/^openb_pod_list_/, "");
}
