/**
 * Reader for Alibaba's cluster-trace-gpu-v2023 ("openb"): a list of nodes and lists of pods.
 * Pod lists differ in columns: some name allowed GPU models (gpu_spec) and times, some do not.
 */
import { readCsv } from "./csv.ts";
import type { CsvResult } from "./csv.ts";

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
    const gpus = fields.integer("gpu", 0, 16);
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
  return readCsv({ file, text, required }, (fields) => {
    const gpus = fields.integer("num_gpu", 0, 16);
    const gpuMilli = fields.integer("gpu_milli", 0, 1000);
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
  });
}

/** The workload's name: the pod file's name without directory, `openb_pod_list_` and `.csv`. */
export function workloadName(file: string): string {
  return (file.split(/[\\/]/).at(-1) ?? file).replace(/\.csv$/, "").replace(/^openb_pod_list_/, "");
}
