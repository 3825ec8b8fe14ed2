import { join } from "node:path";
import type { Clock } from "@fastgpu/domain/clock";
import type { Plan, PlanState } from "@fastgpu/scheduling/plan";
import { type Beginning, FrameWriter, recordingFormat } from "@fastgpu/scheduling/recording/frames";
import type { SchedulingPolicy } from "@fastgpu/scheduling/scheduling-policy";
import type { Logger } from "@fastgpu/telemetry/log";
import { makeRoom } from "./ring.ts";
import { type SegmentEnd, type SegmentHeader, segmentSuffix } from "./segment.ts";
import { SegmentWriter } from "./segment-writer.ts";

/** Where and how much to record. Sizes in bytes. */
export interface RecorderOptions {
  readonly directory: string;
  /** All segments together take at most about this. */
  readonly maxBytes: number;
  /** A segment ends at about this size, and with it the planner's life. */
  readonly segmentBytes: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** What the headers say of who records. */
  readonly writer: Pick<SegmentHeader, "product" | "engine" | "replica" | "term">;
}

/** Records what a leader's planner is given and decides. Nothing here waits, and nothing here throws. */
export interface Recorder extends AsyncDisposable {
  /** Whether the next cycle should begin a new planner's life, in a segment of its own. */
  wantsBeginning(): boolean;
  /** Begins a segment, unless recording rests. */
  begin(beginning: Beginning): void;
  /** A cycle with its plan, or news without one. The state's objects must not change afterwards. */
  cycle(state: PlanState, nowMs: number, plan: Plan | undefined): void;
  policy(policy: SchedulingPolicy): void;
}

/** Bytes before compression at which a segment ends, however well they compress: a reader holds them in memory. */
const greatestRawBytes = 64 * 1024 * 1024;
/** After the disk refused, recording rests for so long. */
const restMs = 60_000;

interface Open {
  readonly frames: FrameWriter;
  readonly segment: SegmentWriter;
}

/** A recorder of one term. */
export function createRecorder(options: RecorderOptions): Recorder {
  const { directory, clock, log } = options;
  let open: Open | undefined;
  let number = 0;
  let missedCycles = 0;
  let restsUntilMs = 0;
  /** Segments that are being ended: until they are, what waits to be written is theirs. */
  let ending = 0;
  /** Ended segments are closed, and room is made, one after the other and behind the cycle. */
  let background: Promise<unknown> = Promise.resolve();

  const failed = (error: unknown): void => {
    log.warn({ err: error, directory }, "the scheduler's recording failed: it rests for a minute");
    restsUntilMs = clock.nowMs() + restMs;
    open = undefined;
  };
  const end = (reason: SegmentEnd["reason"]): void => {
    const ended = open?.segment;
    open = undefined;
    if (ended === undefined) return;
    ending += 1;
    background = background.then(() => ended.end({ reason })).finally(() => (ending -= 1));
  };
  /** Takes a frame; a recording that breaks must not break the cycle. */
  const take = (write: (frames: FrameWriter) => Uint8Array): void => {
    if (open === undefined) return;
    const { frames, segment } = open;
    try {
      if (segment.take(write(frames))) return;
      log.warn(
        { directory },
        "cycles come faster than the disk takes them: a gap in the recording",
      );
      end("overrun");
    } catch (error) {
      end("failed");
      failed(error);
    }
  };
  return {
    wantsBeginning() {
      if (open === undefined) return ending === 0 && clock.nowMs() >= restsUntilMs;
      const { written, taken } = open.segment;
      return written >= options.segmentBytes || taken >= greatestRawBytes;
    },
    begin(beginning) {
      end("full");
      if (ending > 1 || clock.nowMs() < restsUntilMs) return;
      const startedMs = clock.nowMs();
      const { writer } = options;
      const sorted = String(number).padStart(6, "0");
      const name = `${startedMs}-${writer.replica}-${writer.term}-${sorted}${segmentSuffix}`;
      const header = { format: recordingFormat, ...writer, number, startedMs, missedCycles };
      number += 1;
      missedCycles = 0;
      const room = options.maxBytes - options.segmentBytes;
      const ready = background.then(() => makeRoom(directory, room));
      background = ready.catch(() => undefined);
      const path = join(directory, name);
      open = {
        frames: new FrameWriter(),
        segment: new SegmentWriter({ path, header, ready, failed }),
      };
      take((frames) => frames.beginning(beginning));
    },
    cycle(state, nowMs, plan) {
      if (open === undefined) missedCycles += 1;
      take((frames) => frames.cycle(state, nowMs, plan));
    },
    policy: (policy) => take((frames) => frames.policy(policy)),
    async [Symbol.asyncDispose]() {
      end("stopped");
      await background;
    },
  };
}
