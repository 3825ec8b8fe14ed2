import { bootMs } from "../boot-time.ts";
import type { GpuInventory } from "./device.ts";
import { openNvml } from "./nvml.ts";
import { createSimulatedGpus } from "./simulated.ts";
import { openXidWatch, samePciDevice } from "./xid.ts";

const none: GpuInventory = {
  devices: [],
  read: () => {
    throw new RangeError("no GPU");
  },
  lastXid: () => undefined,
  [Symbol.dispose]: () => undefined,
};

/**
 * The GPUs that this worker announces: real ones through NVML where there are some; else as many simulated ones as
 * were asked for, which may be none.
 */
export async function openInventory(options: {
  real: boolean;
  simulatedCount: number;
  seed: string;
  load(index: number): number;
  library?: string;
}): Promise<GpuInventory> {
  const real = options.real ? await openNvml(options.library) : undefined;
  if (real !== undefined && real.devices.length > 0) return withXids(real);
  if (options.simulatedCount === 0) return none;
  return createSimulatedGpus({ ...options, count: options.simulatedCount });
}

/** Adds to each GPU's figures the last XID that the kernel's log named it with. */
function withXids(inventory: GpuInventory): GpuInventory {
  const last = new Map<number, { xid: number; atBootMs: number }>();
  const watch = openXidWatch((error) => {
    const device = inventory.devices.find(
      ({ pciBusId }) => pciBusId !== undefined && samePciDevice(pciBusId, error.pciBusId),
    );
    if (device !== undefined) {
      last.set(device.index, { xid: error.xid, atBootMs: bootMs() });
    }
  });
  return {
    devices: inventory.devices,
    read(index) {
      watch.poll();
      return { ...inventory.read(index), xid: last.get(index)?.xid ?? 0 };
    },
    lastXid(index) {
      watch.poll();
      return last.get(index);
    },
    [Symbol.dispose]() {
      watch[Symbol.dispose]();
      inventory[Symbol.dispose]();
    },
  };
}
