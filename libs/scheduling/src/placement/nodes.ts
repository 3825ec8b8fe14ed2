import type { MigGeometryName } from "./mig.ts";
import { isolationGrades } from "./shapes.ts";
import type { IsolationGrade } from "./shapes.ts";

/** One physical (or simulated) GPU of a node. */
export interface GpuSpec {
  readonly id: string;
  readonly model: string;
  readonly memoryMib: number;
  /** Thousandths that may be given out; 1000, or 0 while the GPU takes no new lease. */
  readonly capacityMilli: number;
  /** How tenants on this GPU are kept apart. */
  readonly isolation: IsolationGrade;
  readonly simulated: boolean;
  /** Set while the GPU is in MIG mode: it is given out in instances only, and its grade is mig. */
  readonly mig?: MigGeometryName;
}

/** One machine as it can be given out: capacities, not what is left. */
export interface NodeSpec {
  readonly id: string;
  readonly cpuMillis: number;
  readonly memoryMib: number;
  readonly diskMib: number;
  readonly gpus: readonly GpuSpec[];
  /** False while cordoned or draining: running tasks stay, none is added. */
  readonly schedulable: boolean;
  /** Places that contain the node, e.g. `{nvlink: "nv-3", rack: "r-12"}`. */
  readonly topology: Readonly<Record<string, string>>;
}

/** What is the same for all GPUs of a kind. */
export interface GpuKind {
  readonly id: number;
  readonly model: string;
  /** Index of the model in `GpuKinds.models`. */
  readonly modelId: number;
  readonly memoryMib: number;
  readonly capacityMilli: number;
  readonly grade: number;
  readonly simulated: boolean;
  readonly mig: MigGeometryName | undefined;
}

/** Gives each distinct kind of GPU, and each model, a number. */
export interface GpuKinds {
  readonly kinds: readonly GpuKind[];
  readonly models: readonly string[];
  intern(gpu: GpuSpec): GpuKind;
}

/** Makes an empty table of kinds. */
export function createGpuKinds(): GpuKinds {
  const kinds: GpuKind[] = [];
  const models: string[] = [];
  const byKey = new Map<string, GpuKind>();
  const intern = (gpu: GpuSpec): GpuKind => {
    const { model, memoryMib, capacityMilli, simulated, mig } = gpu;
    const grade = isolationGrades.indexOf(mig === undefined ? gpu.isolation : "mig");
    const key = JSON.stringify([model, memoryMib, capacityMilli, grade, simulated, mig ?? ""]);
    const known = byKey.get(key);
    if (known !== undefined) return known;
    let modelId = models.indexOf(model);
    if (modelId < 0) modelId = models.push(model) - 1;
    const kind = {
      id: kinds.length,
      model,
      modelId,
      memoryMib,
      capacityMilli,
      grade,
      simulated,
      mig,
    };
    kinds.push(kind);
    byKey.set(key, kind);
    return kind;
  };
  return { kinds, models, intern };
}
