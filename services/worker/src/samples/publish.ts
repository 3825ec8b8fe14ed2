import { cpus, freemem, totalmem } from "node:os";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { GpuSampleSchema } from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import type { Bus } from "@fastgpu/events/bus";
import { signals } from "@fastgpu/events/topics";
import type { Logger } from "@fastgpu/telemetry/log";
import type { GpuFigures, GpuInventory } from "../gpu/device.ts";

/** Publishes this node's newest figures at an interval, for whoever listens. */
export function startSamples(options: {
  bus: Bus;
  gpus: GpuInventory;
  intervalMs: number;
  log: Logger;
  /** Node id and ids of the GPUs in order; undefined before the first Welcome. */
  names(): { node: string; gpus: readonly string[] } | undefined;
}): Disposable {
  let before = cpuTimes();
  const publish = (): void => {
    const names = options.names();
    if (names === undefined) return;
    const now = cpuTimes();
    const total = now.total - before.total;
    const cpuPercent = total === 0 ? 0 : (100 * (now.busy - before.busy)) / total;
    before = now;
    const time = timestampFromMs(Date.now());
    options.bus.send(signals.nodeSample, names.node, {
      node: names.node,
      time,
      cpuPercent,
      memoryUsedMib: BigInt(Math.round((totalmem() - freemem()) / 1_048_576)),
      gpus: options.gpus.devices.map(({ index, model, simulated }) => ({
        gpu: names.gpus[index] ?? "",
        index,
        model,
        sample: { time, simulated, ...figuresToWire(options.gpus.read(index)) },
      })),
    });
  };
  const timer = setInterval(() => {
    try {
      publish();
    } catch (error) {
      options.log.warn({ err: error }, "a sample was not published");
    }
  }, options.intervalMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}

function figuresToWire(figures: GpuFigures): MessageInitShape<typeof GpuSampleSchema> {
  const big = (value: number | undefined): bigint | undefined =>
    value === undefined ? undefined : BigInt(Math.round(value));
  const all = {
    utilizationPercent: figures.utilizationPercent,
    memoryUsedMib: big(figures.memoryUsedMib),
    memoryFreeMib: big(figures.memoryFreeMib),
    temperatureCelsius: figures.temperatureCelsius,
    powerWatts: figures.powerWatts,
    smClockMhz: figures.smClockMhz,
    memoryClockMhz: figures.memoryClockMhz,
    totalEnergyMillijoules: big(figures.totalEnergyMillijoules),
    xid: figures.xid,
  };
  const known = Object.entries(all).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known) as MessageInitShape<typeof GpuSampleSchema>;
}

function cpuTimes(): { busy: number; total: number } {
  let busy = 0;
  let total = 0;
  for (const { times } of cpus()) {
    const all = times.user + times.nice + times.sys + times.idle + times.irq;
    total += all;
    busy += all - times.idle;
  }
  return { busy, total };
}
