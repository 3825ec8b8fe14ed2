import { Fault } from "@fastgpu/domain/fault";
import { nearest } from "@fastgpu/lifecycle/nearest";
import type { Querier } from "@fastgpu/postgres/pool";
import type { Demand } from "@fastgpu/scheduling/plan";
import { readModels } from "../store/nodes.ts";

/** Refuses tasks for GPUs that nobody has ever seen. */
export interface KnownModels {
  /**
   * Throws INVALID_FIELD where none of the models asked for was ever in the fleet: a task with a misspelt model would
   * wait for good. Models of nodes that are gone are known; a fleet that never had a GPU refuses none.
   */
  check(demand: Demand): Promise<void>;
}

/** Remembers models, which only become more, and reads them again only where one is not among them. */
export function createKnownModels(core: Querier): KnownModels {
  let known: ReadonlySet<string> = new Set();
  let reading: Promise<ReadonlySet<string>> | undefined;
  const read = async (): Promise<ReadonlySet<string>> => {
    try {
      return (known = new Set(await readModels(core)));
    } finally {
      reading = undefined;
    }
  };
  return {
    async check({ gpuModels }) {
      if (gpuModels.length === 0 || gpuModels.some((model) => known.has(model))) return;
      const present = await (reading ??= read());
      if (present.size === 0 || gpuModels.some((model) => present.has(model))) return;
      const names = [...present].toSorted();
      const close = nearest(gpuModels[0] ?? "", names) ?? names[0];
      throw Fault.invalid(
        "task.spec.resources.gpu.models",
        `no GPU of the fleet is or was a ${gpuModels.map((model) => JSON.stringify(model)).join(" or ")}`,
        `for example ${JSON.stringify(close)}; \`fastgpu gpu list\` shows the models`,
      );
    },
  };
}
