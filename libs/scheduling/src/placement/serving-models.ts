import type { Cluster } from "./cluster.ts";
import type { Shape } from "./shapes.ts";

/** CPU and memory of a kind of node with some number of GPUs. */
interface Host {
  readonly gpus: number;
  readonly cpuMillis: number;
  readonly memoryMib: number;
}

/**
 * Tells for which models a class of several GPUs is really bound: of those it allows, the ones
 * with a node that has its CPU and memory, where others have nodes with its GPUs but not those.
 * Answers the class with just these models, or as it is where nothing sets them apart.
 */
export function servingModels(cluster: Cluster): (shape: Shape) => Shape {
  const kinds = new Map<string, Host[]>();
  for (const { spec, slot } of cluster.nodes) {
    const model = spec.gpus[0]?.model;
    if (slot < 0 || model === undefined) continue;
    const { cpuMillis, memoryMib } = spec;
    const gpus = spec.gpus.length;
    const hosts = kinds.get(model) ?? [];
    kinds.set(model, hosts);
    const known = hosts.some(
      (host) => host.gpus === gpus && host.cpuMillis === cpuMillis && host.memoryMib === memoryMib,
    );
    if (!known) hosts.push({ gpus, cpuMillis, memoryMib });
  }
  return (shape) => {
    if (shape.gpus < 2) return shape;
    const models: string[] = [];
    let wide = 0;
    for (const [model, hosts] of kinds) {
      if (shape.models?.includes(model) === false) continue;
      const roomy = hosts.filter(({ gpus }) => gpus >= shape.gpus);
      if (roomy.length > 0) wide++;
      if (roomy.some((host) => carries(host, shape))) models.push(model);
    }
    return models.length === wide || models.length === 0 ? shape : { ...shape, models };
  };
}

function carries(host: Host, { cpuMillis, memoryMib }: Shape): boolean {
  return host.cpuMillis >= cpuMillis && host.memoryMib >= memoryMib;
}
