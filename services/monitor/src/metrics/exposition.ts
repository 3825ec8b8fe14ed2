import { Gauge, Registry } from "prom-client";
import type { NodeId } from "@fastgpu/domain/ids";
import { gpuHealth } from "../health/gpu-health.ts";
import type { Monitor } from "../monitor.ts";
import type { KnownGpu, KnownNode } from "../samples/fleet.ts";
import type { FigureName } from "../samples/sample.ts";

/** Names that dashboards made for NVIDIA's dcgm-exporter know, with the figure each shows. */
const dcgm: readonly (readonly [name: string, figure: FigureName, help: string])[] = [
  ["DCGM_FI_DEV_SM_CLOCK", "smClockMhz", "SM clock frequency (in MHz)."],
  ["DCGM_FI_DEV_MEM_CLOCK", "memoryClockMhz", "Memory clock frequency (in MHz)."],
  ["DCGM_FI_DEV_GPU_TEMP", "temperatureCelsius", "GPU temperature (in C)."],
  ["DCGM_FI_DEV_POWER_USAGE", "powerWatts", "Power draw (in W)."],
  [
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "totalEnergyMillijoules",
    "Total energy consumption since boot (in mJ).",
  ],
  ["DCGM_FI_DEV_GPU_UTIL", "utilizationPercent", "GPU utilization (in %)."],
  ["DCGM_FI_DEV_FB_USED", "memoryUsedMib", "Framebuffer memory used (in MiB)."],
  ["DCGM_FI_DEV_FB_FREE", "memoryFreeMib", "Framebuffer memory free (in MiB)."],
  ["DCGM_FI_DEV_XID_ERRORS", "xid", "Value of the last XID error encountered."],
];

const gpuLabels = ["gpu", "UUID", "device", "modelName", "Hostname", "node", "simulated"] as const;
const nodeLabels = ["Hostname", "node"] as const;
const healthStates = ["healthy", "unhealthy", "unknown"] as const;

/** Options of {@link createExposition}. */
export interface ExpositionOptions extends Monitor {
  /** A node's name for people; its id where that is not known. */
  readonly nameOf: (node: NodeId) => string;
  /** Messages that were not taken so far, by reason. */
  readonly refused: ReadonlyMap<string, number>;
}

/**
 * The fleet in Prometheus' text format: DCGM's names for what the devices say, fastgpu_* for the rest. A GPU whose
 * samples have stopped keeps its health alone: an old figure must not look like a present one.
 */
export function createExposition(options: ExpositionOptions): Registry {
  const registry = new Registry();
  const registers = [registry];
  const each = (visit: (gpu: KnownGpu, node: KnownNode) => void): void => {
    for (const node of options.fleet.nodes()) for (const gpu of node.gpus) visit(gpu, node);
  };
  const labelsOf = (gpu: KnownGpu, node: KnownNode) => ({
    gpu: String(gpu.index),
    UUID: gpu.gpu,
    device: gpu.simulated ? "" : `nvidia${gpu.index}`,
    modelName: gpu.model,
    Hostname: options.nameOf(node.node),
    node: node.node,
    simulated: String(gpu.simulated),
  });
  const isFresh = (heardMs: number): boolean =>
    options.clock.nowMs() - heardMs <= options.limits.staleMs;

  for (const [name, figure, help] of dcgm) {
    new Gauge({
      ...{ name, help, registers, labelNames: gpuLabels },
      collect() {
        this.reset();
        each((gpu, node) => {
          const value = gpu.newest.figures[figure];
          if (isFresh(gpu.heardMs) && !Number.isNaN(value)) this.set(labelsOf(gpu, node), value);
        });
      },
    });
  }
  new Gauge({
    name: "fastgpu_gpu_health",
    help: "1 for the state that the GPU is in, 0 for the others.",
    ...{ registers, labelNames: [...gpuLabels, "state"] },
    collect() {
      this.reset();
      const at = { nowMs: options.clock.nowMs(), limits: options.limits };
      each((gpu, node) => {
        const { state: present } = gpuHealth(node, gpu, at);
        const labels = labelsOf(gpu, node);
        for (const state of healthStates) this.set({ ...labels, state }, state === present ? 1 : 0);
      });
    },
  });
  addNodeGauges(options, registers, isFresh);
  new Gauge({
    name: "fastgpu_monitor_refused_samples",
    help: "Messages of workers that were not taken since the start, by reason.",
    ...{ registers, labelNames: ["reason"] },
    collect() {
      for (const [reason, count] of options.refused) this.set({ reason }, count);
    },
  });
  return registry;
}

function addNodeGauges(
  options: ExpositionOptions,
  registers: Registry[],
  isFresh: (heardMs: number) => boolean,
): void {
  const add = (
    name: string,
    help: string,
    valueOf: (node: KnownNode) => number | undefined,
  ): void => {
    new Gauge({
      ...{ name, help, registers, labelNames: nodeLabels },
      collect() {
        this.reset();
        for (const node of options.fleet.nodes()) {
          const value = valueOf(node);
          const labels = { Hostname: options.nameOf(node.node), node: node.node };
          if (value !== undefined) this.set(labels, value);
        }
      },
    });
  };
  const whileFresh = (node: KnownNode, value: number): number | undefined =>
    isFresh(node.heardMs) ? value : undefined;
  add("fastgpu_node_cpu_percent", "CPU in use of all cores (in %).", (node) =>
    whileFresh(node, node.cpuPercent),
  );
  add("fastgpu_node_memory_used_bytes", "Memory in use (in bytes).", (node) =>
    whileFresh(node, node.memoryUsedMib * 1_048_576),
  );
  add("fastgpu_node_silence_seconds", "Time since the node's last sample (in s).", (node) =>
    Math.max(0, (options.clock.nowMs() - node.heardMs) / 1_000),
  );
}
