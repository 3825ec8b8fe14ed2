import { createReplay, type Replayed } from "@fastgpu/scheduling/recording/replay";
import { engineVersion } from "../recording/engine-version.ts";
import { readSegment } from "../recording/read-segment.ts";
import type { SegmentHeader } from "../recording/segment.ts";

/** What came of a segment's replay. */
export interface SegmentReplay {
  readonly path: string;
  /** Undefined where not even the header can be read. */
  readonly header: SegmentHeader | undefined;
  /** Why it was not replayed; undefined: it was. */
  readonly refused: string | undefined;
  /** What is wrong with the file; what lies before that was replayed. */
  readonly damage: string | undefined;
  /** False where its writer did not come to an end: it still writes, or was killed. */
  readonly ended: boolean;
  readonly cycles: number;
  /** Leases and preemptions decided. */
  readonly decisions: number;
  /** Cycles that this engine decides otherwise. */
  readonly mismatches: number;
}

/** The first cycle that came out otherwise. */
export interface Mismatch extends Pick<Replayed, "nowMs" | "differences"> {
  readonly path: string;
  /** Number of the cycle within its segment, from 1. */
  readonly cycle: number;
}

/** What came of a replay. */
export interface ReplayReport {
  readonly engine: string;
  readonly segments: readonly SegmentReplay[];
  readonly cycles: number;
  readonly decisions: number;
  readonly mismatches: number;
  readonly firstMismatch: Mismatch | undefined;
}

/** Which cycles are looked at: those from `fromMs` on, and before `toMs`. */
export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

/** All cycles. */
export const always: Window = { fromMs: Number.NEGATIVE_INFINITY, toMs: Number.POSITIVE_INFINITY };

/**
 * Plans recorded cycles again and compares each decision. A segment is always planned from its beginning, for the
 * planner remembers; the window says which cycles count. Segments of another engine are left out, and say so.
 */
export async function replaySegments(
  paths: readonly string[],
  window: Window = always,
  onSegment: (path: string) => void = () => undefined,
): Promise<ReplayReport> {
  const engine = await engineVersion();
  const segments: SegmentReplay[] = [];
  let firstMismatch: Mismatch | undefined;
  for (const path of paths) {
    onSegment(path);
    const { first, ...segment } = await replaySegment(path, engine, window);
    firstMismatch ??= first;
    segments.push(segment);
  }
  const sum = (of: (segment: SegmentReplay) => number): number =>
    segments.reduce((total, segment) => total + of(segment), 0);
  return {
    engine,
    segments,
    cycles: sum(({ cycles }) => cycles),
    decisions: sum(({ decisions }) => decisions),
    mismatches: sum(({ mismatches }) => mismatches),
    firstMismatch,
  };
}

async function replaySegment(
  path: string,
  engine: string,
  window: Window,
): Promise<SegmentReplay & { readonly first: Mismatch | undefined }> {
  const segment = await readSegment(path);
  const { header } = segment;
  const none = { cycles: 0, decisions: 0, mismatches: 0, ended: false, first: undefined };
  if (header === undefined) {
    return { path, header, refused: segment.damage, damage: segment.damage, ...none };
  }
  if (header.engine !== engine) {
    const refused = `engine ${header.engine} of FastGPU ${header.product} recorded it, this is engine ${engine}`;
    return { path, header, refused, damage: segment.damage, ...none };
  }
  let [cycles, decisions, mismatches, cycle] = [0, 0, 0, 0];
  let first: Mismatch | undefined;
  let { damage } = segment;
  const replay = createReplay();
  try {
    for (const frame of segment.frames()) {
      if ("nowMs" in frame && frame.nowMs >= window.toMs) break;
      const replayed = replay(frame);
      if (replayed === undefined) continue;
      cycle += 1;
      if (replayed.nowMs < window.fromMs) continue;
      const { recorded, differences, nowMs } = replayed;
      cycles += 1;
      decisions += recorded.placements.length + recorded.preemptions.length;
      if (differences.length === 0) continue;
      mismatches += 1;
      first ??= { path, cycle, nowMs, differences };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    damage ??= error.message;
  }
  const ended = segment.end !== undefined;
  return { path, header, refused: undefined, damage, ended, cycles, decisions, mismatches, first };
}
