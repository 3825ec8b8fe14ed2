import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ProgressSchema } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { countOf } from "../ranges.ts";
import type { RuntimeEvent } from "../runtime/port.ts";
import { rangesFromWire } from "../session/wire.ts";

const maxMetrics = 64;

type Progress = MessageInitShape<typeof ProgressSchema>;

/** A task's progress line (`{"step", "of", "metrics"}`) or a range's counts; undefined for what is none. */
export function parseProgress(
  event: Extract<RuntimeEvent, { kind: "progress" | "elements" }>,
  lease: Lease,
): Progress | undefined {
  if (event.kind === "elements") {
    const step = BigInt(event.ok + event.failed);
    const of = BigInt(countOf(rangesFromWire(lease.elements)));
    return { step, of, metrics: { failed: event.failed } };
  }
  // Elements report for themselves; their lines would overwrite the range's own count.
  return lease.elements.length > 0 ? undefined : parseLine(event.line);
}

/**
 * Whether a task's line says that a checkpoint is saved: `"checkpoint": true`, or an object about it. A task that may be
 * preempted tells it, so that the one that loses least is stopped.
 */
export function tellsOfCheckpoint(event: RuntimeEvent, lease: Lease): boolean {
  if (event.kind !== "progress" || lease.elements.length > 0) return false;
  const checkpoint = fieldsOf(event.line)?.["checkpoint"];
  return checkpoint === true || (typeof checkpoint === "object" && checkpoint !== null);
}

function fieldsOf(line: string): Record<string, unknown> | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return typeof value === "object" && value !== null
    ? (value as Record<string, unknown>)
    : undefined;
}

function parseLine(line: string): Progress | undefined {
  const { step, of, metrics } = fieldsOf(line) ?? {};
  if (!isCount(step)) return undefined;
  return {
    step: BigInt(step),
    of: isCount(of) ? BigInt(of) : 0n,
    metrics: Object.fromEntries(numbersOf(metrics).slice(0, maxMetrics)),
  };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function numbersOf(metrics: unknown): [string, number][] {
  if (typeof metrics !== "object" || metrics === null) return [];
  return Object.entries(metrics).filter(
    (entry): entry is [string, number] => typeof entry[1] === "number" && Number.isFinite(entry[1]),
  );
}
