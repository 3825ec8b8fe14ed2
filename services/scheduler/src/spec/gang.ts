import {
  TopologyLevel,
  type TaskSpec,
  type Topology as WireTopology,
} from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Topology } from "@fastgpu/scheduling/plan";

/** GPUs that all members of a gang may have together; docs/limits.md states it. */
export const maxGangGpus = 8_192;

const names: Readonly<Record<TopologyLevel, Topology["within"]>> = {
  [TopologyLevel.UNSPECIFIED]: undefined,
  [TopologyLevel.NODE]: "node",
  [TopologyLevel.NVLINK]: "nvlink",
  [TopologyLevel.RACK]: "rack",
};

/** How far each place reaches. */
const reach = { node: 0, nvlink: 1, rack: 2 } as const;

/** The gang that a spec asks for: 1 member where it asks for none. */
export interface ParsedGang {
  readonly replicas: number;
  readonly topology: Topology;
}

/** Checks a gang's fields. Throws a Fault that names the field: INVALID_FIELD or LIMIT_EXCEEDED. */
export function parseGang(spec: TaskSpec): ParsedGang {
  const replicas = Math.max(1, spec.replicas);
  const topology = parseTopology(spec.topology);
  if (replicas === 1) return { replicas, topology };
  if (spec.array !== undefined) {
    throw Fault.invalid(
      "task.spec.replicas",
      "an array of gangs is not supported: submit a task for each gang, or an array with one member each",
    );
  }
  const gpus = replicas * (spec.resources?.gpu?.count ?? 0);
  if (gpus > maxGangGpus) {
    const description = `asks for ${gpus} GPUs together (replicas × gpu.count), at most ${maxGangGpus}`;
    throw new Fault("LIMIT_EXCEEDED", `task.spec.replicas ${description}`, {
      violations: [{ field: "task.spec.replicas", description }],
    });
  }
  const { within, spreadOver } = topology;
  if (within !== undefined && spreadOver !== undefined && reach[within] <= reach[spreadOver]) {
    throw Fault.invalid(
      "task.spec.topology",
      `${replicas} members cannot lie within one ${within} and no two of them in one ${spreadOver}`,
    );
  }
  return { replicas, topology };
}

function parseTopology(wire: WireTopology | undefined): Topology {
  const within = names[wire?.within ?? TopologyLevel.UNSPECIFIED];
  const spreadOver = names[wire?.spreadOver ?? TopologyLevel.UNSPECIFIED];
  if (spreadOver === "nvlink") {
    throw Fault.invalid("task.spec.topology.spread_over", "must be NODE or RACK");
  }
  return {
    ...(within === undefined ? {} : { within }),
    ...(spreadOver === undefined ? {} : { spreadOver }),
  };
}
