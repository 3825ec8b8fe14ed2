import type { Clock } from "@fastgpu/domain/clock";
import type { Logger } from "@fastgpu/telemetry/log";
import type { SchedulerConfig } from "../config.ts";
import { engineVersion, productVersion } from "./engine-version.ts";
import { createRecorder, type Recorder } from "./recorder.ts";

/** The recorder of a term by the configuration; undefined where nothing is, or can be, recorded. */
export async function recorderOf(
  config: SchedulerConfig,
  of: { clock: Clock; log: Logger; term: number },
): Promise<Recorder | undefined> {
  const { replica, recordingDirectory: directory, recordingMaxMib, recordingSegmentMib } = config;
  if (directory === undefined || recordingMaxMib === 0) return undefined;
  const maxBytes = recordingMaxMib * 1024 * 1024;
  // With fewer segments than four, the newest alone would be most of what is kept.
  const segmentBytes = Math.min(recordingSegmentMib * 1024 * 1024, maxBytes / 4);
  try {
    const engine = await engineVersion();
    const writer = { product: productVersion, engine, replica, term: of.term };
    return createRecorder({ directory, maxBytes, segmentBytes, ...of, writer });
  } catch (error) {
    of.log.warn({ err: error }, "the engine's sources cannot be read: nothing is recorded");
    return undefined;
  }
}
