import { UsageKind } from "@fastgpu/contracts/fastgpu/billing/v1/billing_service_pb";

/** What of an attempt decides how its GPUs' time is rated. Times in milliseconds since the epoch. */
export interface AttemptTimes {
  readonly leaseMs: number;
  /** When it began to run: billing starts here. */
  readonly runningMs: number | undefined;
  /** When it was told to stop. */
  readonly stopMs: number | undefined;
  /** From when nothing is known of it, because its node was lost. */
  readonly unknownFromMs?: number;
}

/** One stretch of a GPU's time of one kind. */
export interface Segment {
  readonly kind: UsageKind;
  readonly startMs: number;
  readonly endMs: number;
  /** On the attempt's billing clock; start equals end where the time is free. */
  readonly billingStartMs: number;
  readonly billingEndMs: number;
}

/**
 * Cuts [fromMs, toMs) of a GPU's time where its kind changes: starting until it runs, then billable, stopping once it
 * was told to stop, unknown from when its node was last heard of. Segments join without gap or overlap.
 */
export function cutSegments(times: AttemptTimes, fromMs: number, toMs: number): Segment[] {
  const marks = [times.runningMs, times.stopMs, times.unknownFromMs];
  const points = marks.filter((mark) => mark !== undefined && mark > fromMs && mark < toMs);
  const bounds = [fromMs, ...(points as number[]).toSorted((a, b) => a - b), toMs];
  const segments: Segment[] = [];
  for (let i = 1; i < bounds.length; i += 1) {
    const startMs = bounds[i - 1] ?? fromMs;
    const endMs = bounds[i] ?? toMs;
    if (endMs <= startMs) continue;
    const kind = kindAt(times, startMs);
    segments.push({ kind, startMs, endMs, ...billed(times, kind, startMs, endMs) });
  }
  return segments;
}

function kindAt(times: AttemptTimes, atMs: number): UsageKind {
  if (times.unknownFromMs !== undefined && atMs >= times.unknownFromMs) return UsageKind.UNKNOWN;
  if (times.runningMs === undefined || atMs < times.runningMs) return UsageKind.STARTING;
  if (times.stopMs !== undefined && atMs >= times.stopMs) return UsageKind.STOPPING;
  return UsageKind.BILLABLE;
}

function billed(times: AttemptTimes, kind: UsageKind, startMs: number, endMs: number) {
  const originMs = times.runningMs;
  const pays = kind === UsageKind.BILLABLE || kind === UsageKind.STOPPING;
  if (originMs === undefined || !pays) {
    const at = originMs === undefined ? 0 : Math.max(0, startMs - originMs);
    return { billingStartMs: at, billingEndMs: at };
  }
  return { billingStartMs: startMs - originMs, billingEndMs: endMs - originMs };
}
