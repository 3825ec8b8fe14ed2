import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { HealthState } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import type {
  GpuHealthSchema,
  GpuSampleSchema,
} from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import type { NodeId } from "@fastgpu/domain/ids";
import type { GpuHealth } from "../health/gpu-health.ts";
import type { KnownGpu } from "../samples/fleet.ts";
import type { Moment } from "../samples/history.ts";

const states: Readonly<Record<GpuHealth["state"], HealthState>> = {
  healthy: HealthState.HEALTHY,
  unhealthy: HealthState.UNHEALTHY,
  unknown: HealthState.UNKNOWN,
};

/** A GPU's health on the wire. */
export function healthMessage(
  node: NodeId,
  gpu: KnownGpu,
  health: GpuHealth,
): MessageInitShape<typeof GpuHealthSchema> {
  return {
    name: `nodes/${node}/gpus/${gpu.gpu}`,
    state: states[health.state],
    message: health.message,
    sample: sampleMessage(gpu.newest, gpu.simulated),
  };
}

/** Figures on the wire; one that the device does not give is absent. */
export function sampleMessage(
  moment: Moment,
  simulated: boolean,
): MessageInitShape<typeof GpuSampleSchema> {
  const { figures } = moment;
  const message: MessageInitShape<typeof GpuSampleSchema> = {
    time: timestampFromMs(moment.timeMs),
    simulated,
  };
  const given = (value: number): boolean => !Number.isNaN(value);
  if (given(figures.utilizationPercent)) message.utilizationPercent = figures.utilizationPercent;
  if (given(figures.memoryUsedMib)) message.memoryUsedMib = BigInt(figures.memoryUsedMib);
  if (given(figures.memoryFreeMib)) message.memoryFreeMib = BigInt(figures.memoryFreeMib);
  if (given(figures.temperatureCelsius)) message.temperatureCelsius = figures.temperatureCelsius;
  if (given(figures.powerWatts)) message.powerWatts = figures.powerWatts;
  if (given(figures.smClockMhz)) message.smClockMhz = figures.smClockMhz;
  if (given(figures.memoryClockMhz)) message.memoryClockMhz = figures.memoryClockMhz;
  if (given(figures.totalEnergyMillijoules)) {
    message.totalEnergyMillijoules = BigInt(figures.totalEnergyMillijoules);
  }
  if (given(figures.xid)) message.xid = figures.xid;
  return message;
}
