import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@fastgpu/domain/fault";
import { listSegments } from "@fastgpu/scheduler/recording/ring";
import { type ReplayReport, replaySegments } from "@fastgpu/scheduler/replay/replay";
import { simulateRecording } from "@fastgpu/scheduler/replay/what-if";
import type { Simulated, Watching } from "@fastgpu/scheduler/simulate/run";

/** What to replay. */
export interface ReplayOptions {
  /** Files, and directories for all that is in them; empty: all recordings of the data directory. */
  readonly files: readonly string[];
  readonly dataDir: string;
  /** Only cycles from this time on, and before that one; undefined: all. */
  readonly fromMs: number | undefined;
  readonly toMs: number | undefined;
  onSegment?(path: string): void;
}

/** Decides recorded cycles again. Neither a platform nor a database is needed; a running platform is not disturbed. */
export async function replayRecordings(options: ReplayOptions): Promise<ReplayReport> {
  const { fromMs = Number.NEGATIVE_INFINITY, toMs = Number.POSITIVE_INFINITY } = options;
  const paths = await recordingsOf(options);
  return await replaySegments(paths, { fromMs, toMs }, options.onSegment);
}

/** What a policy would have changed. */
export interface WhatIfOptions extends ReplayOptions {
  /** Policy file; "default": the shipped policy. */
  readonly policy: string;
  /** Dollars a GPU-hour; undefined: one. */
  readonly prices: string | undefined;
}

/** Simulates the load of recordings under the policy that was in force and under another one. */
export async function whatIf(options: WhatIfOptions, on: Watching): Promise<Simulated> {
  const { fromMs = Number.NEGATIVE_INFINITY, toMs = Number.POSITIVE_INFINITY } = options;
  const paths = await recordingsOf(options);
  const { policy, prices } = options;
  return await simulateRecording({ paths, window: { fromMs, toMs }, policy, prices }, on);
}

async function recordingsOf({ files, dataDir }: ReplayOptions): Promise<readonly string[]> {
  if (files.length > 0) return (await Promise.all(files.map(recordingsAt))).flat();
  return await recordingsIn(join(dataDir, "recordings"));
}

async function recordingsAt(path: string): Promise<readonly string[]> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) {
    throw new Fault("NOT_FOUND", `there is no file ${path}`, {
      hint: "name recordings, or the data directory with --data DIR",
    });
  }
  return found.isDirectory() ? await recordingsIn(path) : [path];
}

async function recordingsIn(directory: string): Promise<readonly string[]> {
  const paths = await listSegments(directory);
  if (paths.length > 0) return paths;
  throw new Fault("NOT_FOUND", `there are no recordings in ${directory}`, {
    hint: "name the data directory with --data DIR, or files; FASTGPU_SCHEDULER__RECORDING_MAX_MIB=0 turns recording off",
  });
}
