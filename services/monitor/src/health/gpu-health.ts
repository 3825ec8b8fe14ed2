import { answered } from "../samples/sample.ts";
import type { KnownGpu, KnownNode } from "../samples/fleet.ts";
import { xidAction } from "./xid.ts";

/** Health with its reason for people. Unknown is not unhealthy: silence tells nothing about the device. */
export interface GpuHealth {
  readonly state: "healthy" | "unhealthy" | "unknown";
  readonly message: string;
}

/** When figures are too old or too high. */
export interface HealthLimits {
  /** Silence after which a state is unknown, in milliseconds. */
  readonly staleMs: number;
  /** Temperature from which a GPU is unhealthy, in °C. */
  readonly maxTemperatureCelsius: number;
}

/** Draws a GPU's health from when its node and itself were last heard of, and from its newest figures. */
export function gpuHealth(
  node: KnownNode,
  gpu: KnownGpu,
  at: { readonly nowMs: number; readonly limits: HealthLimits },
): GpuHealth {
  const { staleMs, maxTemperatureCelsius } = at.limits;
  const silentMs = at.nowMs - node.heardMs;
  if (silentMs > staleMs) {
    return { state: "unknown", message: `no sample from its node for ${seconds(silentMs)}` };
  }
  const missingMs = at.nowMs - gpu.heardMs;
  if (missingMs > staleMs) {
    return unhealthy(`missing from its node's samples for ${seconds(missingMs)}`);
  }
  const { figures } = gpu.newest;
  if (!answered(figures)) return unhealthy("the device does not answer its driver");
  const problem = xidProblem(figures.xid);
  if (problem !== undefined) return unhealthy(problem);
  if (figures.temperatureCelsius >= maxTemperatureCelsius) {
    return unhealthy(`${figures.temperatureCelsius} °C, the limit is ${maxTemperatureCelsius} °C`);
  }
  return { state: "healthy", message: gpu.simulated ? "simulated" : "" };
}

function xidProblem(xid: number): string | undefined {
  if (Number.isNaN(xid)) return undefined;
  switch (xidAction(xid)) {
    case "none":
    case "restart_task":
      return undefined;
    case "reset_gpu":
      return `XID ${xid}: the GPU needs a reset`;
    case "restart_machine":
      return `XID ${xid}: the machine needs a restart`;
    case "inspect":
      return `XID ${xid}: the hardware needs an inspection`;
  }
}

function unhealthy(message: string): GpuHealth {
  return { state: "unhealthy", message };
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}
