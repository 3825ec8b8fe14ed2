import { findCgroupHost } from "./keeper/cgroup.ts";
import { probeSandbox } from "./keeper/sandbox.ts";
import { openNvml } from "./gpu/nvml.ts";
import { findEngine } from "./runtime/container/service.ts";

/** What this machine offers to tasks, found by trying. */
export interface MachineProbe {
  /** Isolation that processes get here; empty with `processes` false. */
  readonly isolation: readonly string[];
  readonly processes: boolean;
  /** Limits that a control group enforces here. */
  readonly limits: readonly string[];
  /** `podman` or `docker`; undefined where there is none. */
  readonly engine: string | undefined;
  readonly gpus: readonly { readonly model: string; readonly memoryMib: number }[];
}

/** Looks at this machine with a worker's eyes, for `fastgpu doctor`. Changes nothing. */
export async function probeMachine(): Promise<MachineProbe> {
  using nvml = await openNvml();
  const gpus = (nvml?.devices ?? []).map(({ model, memoryMib }) => ({ model, memoryMib }));
  const engine = findEngine({ ownSocket: "/nonexistent" })?.kind;
  const limits = Object.keys(findCgroupHost()?.parents ?? {});
  try {
    return { processes: true, isolation: probeSandbox().isolation, limits, engine, gpus };
  } catch {
    return { processes: false, isolation: [], limits, engine, gpus };
  }
}
