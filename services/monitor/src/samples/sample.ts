import type {
  GpuSample,
  NodeSample,
} from "@fastgpu/contracts/fastgpu/monitor/v1/monitor_service_pb";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { parseId } from "@fastgpu/domain/ids";
import type { GpuId, NodeId } from "@fastgpu/domain/ids";

/** The figures of a GPU, in the order in which history keeps them. The unit is last in each name. */
export const figureNames = [
  "utilizationPercent",
  "memoryUsedMib",
  "memoryFreeMib",
  "temperatureCelsius",
  "powerWatts",
  "smClockMhz",
  "memoryClockMhz",
  "totalEnergyMillijoules",
  "xid",
] as const;
export type FigureName = (typeof figureNames)[number];

/** Figures of one GPU; NaN where the device does not give one. */
export type Figures = Readonly<Record<FigureName, number>>;

/** What a worker says of one GPU. */
export interface Reading {
  readonly gpu: GpuId;
  readonly index: number;
  readonly model: string;
  readonly simulated: boolean;
  /** When, in milliseconds since the epoch, by the worker's clock but never ahead of ours. */
  readonly timeMs: number;
  readonly figures: Figures;
}

/** What a worker says of its node. */
export interface NodeReading {
  readonly node: NodeId;
  readonly timeMs: number;
  readonly cpuPercent: number;
  readonly memoryUsedMib: number;
  readonly gpus: readonly Reading[];
}

/** Most GPUs that one node may have, as in the worker's Hello. */
const MAX_GPUS = 64;

/** Why a message was not taken. */
export type Refusal = "wrong_node" | "malformed" | "too_many_gpus";

/**
 * Reads a worker's message that came with the key of its subject, which must be its own node. A time ahead of ours is
 * cut to ours: a clock that runs ahead must not make its node look alive for ever.
 */
export function readSample(key: string, message: NodeSample, nowMs: number): NodeReading | Refusal {
  const node = parseId("node", message.node);
  if (node === undefined) return "malformed";
  if (message.node !== key) return "wrong_node";
  if (message.gpus.length > MAX_GPUS) return "too_many_gpus";
  const timeMs = timeOf(message.time, nowMs);
  const gpus: Reading[] = [];
  for (const { gpu: id, index, model, sample } of message.gpus) {
    const gpu = parseId("gpu", id);
    if (gpu === undefined) return "malformed";
    gpus.push({
      gpu,
      index,
      model: model.slice(0, 128),
      simulated: sample?.simulated ?? false,
      timeMs: sample?.time === undefined ? timeMs : timeOf(sample.time, nowMs),
      figures: figuresOf(sample),
    });
  }
  const memoryUsedMib = Number(message.memoryUsedMib);
  return { node, timeMs, cpuPercent: message.cpuPercent, memoryUsedMib, gpus };
}

/** Whether the device answered at all: an XID alone comes from the kernel's log, not from the device. */
export function answered(figures: Figures): boolean {
  return figureNames.some((name) => name !== "xid" && !Number.isNaN(figures[name]));
}

function timeOf(time: Timestamp | undefined, nowMs: number): number {
  return time === undefined ? nowMs : Math.min(nowMs, timestampMs(time));
}

function figuresOf(sample: GpuSample | undefined): Figures {
  const figure = (value: number | bigint | undefined): number =>
    value === undefined ? Number.NaN : Number(value);
  return {
    utilizationPercent: figure(sample?.utilizationPercent),
    memoryUsedMib: figure(sample?.memoryUsedMib),
    memoryFreeMib: figure(sample?.memoryFreeMib),
    temperatureCelsius: figure(sample?.temperatureCelsius),
    powerWatts: figure(sample?.powerWatts),
    smClockMhz: figure(sample?.smClockMhz),
    memoryClockMhz: figure(sample?.memoryClockMhz),
    totalEnergyMillijoules: figure(sample?.totalEnergyMillijoules),
    xid: figure(sample?.xid),
  };
}
