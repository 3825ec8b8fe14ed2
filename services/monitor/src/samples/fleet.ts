import type { Clock } from "@fastgpu/domain/clock";
import type { GpuId, NodeId } from "@fastgpu/domain/ids";
import { createHistory } from "./history.ts";
import type { History, HistoryBounds, Moment } from "./history.ts";
import type { NodeReading, Reading } from "./sample.ts";

/** A GPU as last heard of. */
export interface KnownGpu {
  readonly gpu: GpuId;
  readonly index: number;
  readonly model: string;
  readonly simulated: boolean;
  readonly newest: Moment;
  /** By our clock, milliseconds since the epoch: what freshness is judged by. */
  readonly heardMs: number;
}

/** A node as last heard of. */
export interface KnownNode {
  readonly node: NodeId;
  readonly cpuPercent: number;
  readonly memoryUsedMib: number;
  readonly heardMs: number;
  /** By index. */
  readonly gpus: readonly KnownGpu[];
}

/** The newest figures of the fleet and its short history, in memory only: a restart loses nothing else. */
export interface Fleet {
  /** Takes what a worker said; false where there is no room for another GPU. */
  take(reading: NodeReading): boolean;
  /** Nodes by id, of one or of all. */
  nodes(node?: NodeId): KnownNode[];
  /** Moments of one GPU, oldest first; `undefined` for one never heard of. */
  history(node: NodeId, gpu: GpuId, windowMs: number): Moment[] | undefined;
  /** Drops what has not been heard of for `forgetMs`. */
  forget(): void;
}

/** Options of {@link createFleet}. */
export interface FleetOptions extends HistoryBounds {
  readonly clock: Clock;
  /** Silence after which a node or GPU is dropped, in milliseconds. */
  readonly forgetMs: number;
  /** GPUs kept at most; what comes beyond is refused, so that memory stays bounded. */
  readonly maxGpus: number;
}

interface GpuEntry {
  reading: Reading;
  heardMs: number;
  readonly history: History;
}

interface NodeEntry {
  reading: NodeReading;
  heardMs: number;
  readonly gpus: Map<GpuId, GpuEntry>;
}

/** No message is held up on its way for this long, in milliseconds. */
const LATE_MS = 30_000;

/** A worker whose clock was set back would seem silent until it caught up: from then on our own time counts. */
function withPlausibleTime(said: NodeReading, before: NodeReading, nowMs: number): NodeReading {
  if (before.timeMs - said.timeMs <= LATE_MS) return said;
  return { ...said, timeMs: nowMs, gpus: said.gpus.map((gpu) => ({ ...gpu, timeMs: nowMs })) };
}

/** An empty fleet. */
export function createFleet(options: FleetOptions): Fleet {
  const { clock } = options;
  const entries = new Map<NodeId, NodeEntry>();
  let gpuCount = 0;

  const takeGpu = (node: NodeEntry, reading: Reading, nowMs: number): boolean => {
    let entry = node.gpus.get(reading.gpu);
    if (entry === undefined) {
      if (gpuCount >= options.maxGpus) return false;
      gpuCount += 1;
      entry = { reading, heardMs: nowMs, history: createHistory(options) };
      node.gpus.set(reading.gpu, entry);
    }
    // An old message that was held up on its way tells nothing about now.
    if (!entry.history.add(reading)) return true;
    entry.reading = reading;
    entry.heardMs = nowMs;
    return true;
  };
  return {
    take(said) {
      const nowMs = clock.nowMs();
      let entry = entries.get(said.node);
      const reading = entry === undefined ? said : withPlausibleTime(said, entry.reading, nowMs);
      if (entry === undefined) {
        if (entries.size >= options.maxGpus) return false;
        entry = { reading, heardMs: nowMs, gpus: new Map() };
        entries.set(reading.node, entry);
      } else if (reading.timeMs > entry.reading.timeMs) {
        entry.reading = reading;
        entry.heardMs = nowMs;
      }
      const { gpus } = reading;
      const node = entry;
      return gpus.map((gpu) => takeGpu(node, gpu, nowMs)).every(Boolean);
    },
    nodes(node) {
      if (node !== undefined) {
        const entry = entries.get(node);
        return entry === undefined ? [] : [known(entry)];
      }
      return [...entries.keys()].toSorted().map((id) => known(entries.get(id) as NodeEntry));
    },
    history(node, gpu, windowMs) {
      const entry = entries.get(node)?.gpus.get(gpu);
      return entry?.history.since(clock.nowMs() - windowMs);
    },
    forget() {
      const before = clock.nowMs() - options.forgetMs;
      for (const [id, entry] of entries) {
        for (const [gpu, { heardMs }] of entry.gpus) {
          if (heardMs >= before) continue;
          entry.gpus.delete(gpu);
          gpuCount -= 1;
        }
        if (entry.heardMs < before && entry.gpus.size === 0) entries.delete(id);
      }
    },
  };
}

/** An entry as others see it. */
function known(entry: NodeEntry): KnownNode {
  return {
    node: entry.reading.node,
    cpuPercent: entry.reading.cpuPercent,
    memoryUsedMib: entry.reading.memoryUsedMib,
    heardMs: entry.heardMs,
    gpus: [...entry.gpus.values()]
      .map(({ reading, heardMs }) => ({
        gpu: reading.gpu,
        index: reading.index,
        model: reading.model,
        simulated: reading.simulated,
        newest: reading,
        heardMs,
      }))
      .toSorted((a, b) => a.index - b.index || (a.gpu < b.gpu ? -1 : 1)),
  };
}
