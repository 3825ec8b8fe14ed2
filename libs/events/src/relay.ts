import { startRelay } from "@fastgpu/postgres/relay";
import type { Relay, RelayOptions } from "@fastgpu/postgres/relay";
import type { Bus } from "./bus.ts";

/** Starts a service's relay onto the bus. */
export function startBusRelay(
  options: Omit<RelayOptions, "publish"> & { readonly bus: Bus },
): Relay {
  return startRelay({ ...options, publish: (run) => options.bus.publish(options.producer, run) });
}
