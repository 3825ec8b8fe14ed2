import { createHash } from "node:crypto";
import type { GpuDevice, GpuFigures, GpuInventory } from "./device.ts";

/** What a simulated GPU claims to be; its name says so too. */
export const simulatedModel = "Simulated GPU";
const memoryMib = 16_384;

/**
 * GPUs on which nothing is computed, for machines without any: same identity at every start of the same worker. Only
 * made when asked for, and labelled everywhere.
 */
export function createSimulatedGpus(options: {
  count: number;
  /** Identity of the worker's data directory; gives the same uuids again. */
  seed: string;
  /** How busy the device at an index is, 0 to 1: what its figures pretend. */
  load(index: number): number;
}): GpuInventory {
  const devices: GpuDevice[] = Array.from({ length: options.count }, (_, index) => ({
    index,
    uuid: `SIM-${uuidOf(`${options.seed}/${index}`)}`,
    model: simulatedModel,
    memoryMib,
    simulated: true,
    pciBusId: undefined,
    devicePath: undefined,
  }));
  return {
    devices,
    read: (index) => figuresOf(options.load(index)),
    lastXid: () => undefined,
    [Symbol.dispose]: () => undefined,
  };
}

function figuresOf(load: number): GpuFigures {
  const used = Math.round(load * memoryMib * 0.5);
  return {
    utilizationPercent: Math.round(load * 90),
    memoryUsedMib: used,
    memoryFreeMib: memoryMib - used,
    temperatureCelsius: 35 + Math.round(load * 30),
    powerWatts: 40 + Math.round(load * 200),
    smClockMhz: 300 + Math.round(load * 1_200),
    memoryClockMhz: 1_000,
    totalEnergyMillijoules: undefined,
    xid: 0,
  };
}

function uuidOf(seed: string): string {
  const hex = createHash("sha256").update(seed).digest("hex");
  return [8, 12, 16, 20, 32].map((end, i) => hex.slice([0, 8, 12, 16, 20][i], end)).join("-");
}
