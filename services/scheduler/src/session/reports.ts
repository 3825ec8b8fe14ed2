import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ProgressSchema, type Progress } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import type { Report } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { Clock } from "@fastgpu/domain/clock";
import { indexSet, type IndexSet } from "@fastgpu/domain/index-set";
import type { NodeId } from "@fastgpu/domain/ids";
import { parseMemberName } from "@fastgpu/domain/member-name";
import type { ExitClass } from "@fastgpu/domain/states";
import { createBatchWriter, type BatchWriter } from "@fastgpu/postgres/batch-writer";
import type { Pool } from "@fastgpu/postgres/pool";
import { transaction } from "@fastgpu/postgres/transaction";
import type { Logger } from "@fastgpu/telemetry/log";
import { contextFromTraceparent, traceIdOf } from "@fastgpu/telemetry/trace-context";
import { passiveTracing, type Tracing } from "@fastgpu/telemetry/tracing";
import { exitClassFromWire } from "../api/wire-states.ts";
import type { ElementResults } from "../store/attempts.ts";
import { applyAttemptEvents, type Applied, type EndedAttempt } from "../transition/apply.ts";
import type { AttemptEvent } from "../transition/fold.ts";

/** Reports of one message, as events in the server's time. */
export function toEvents(
  reports: readonly Report[],
  from: { node: NodeId; receivedMs: number },
): AttemptEvent[] {
  return reports.flatMap((report) => {
    const who = parseMemberName(report.attempt);
    const what = whatHappened(report, from.receivedMs);
    if (who === undefined || what === undefined) return [];
    const atMs = from.receivedMs - Number(report.agoMs);
    return [{ ...who, node: from.node, epoch: Number(report.epoch), atMs, what }];
  });
}

function whatHappened(report: Report, receivedMs: number): AttemptEvent["what"] | undefined {
  const { event } = report;
  switch (event.case) {
    case "starting":
      return { kind: "starting" };
    case "running":
      return { kind: "running", isolation: event.value.isolation };
    case "stopping":
      return { kind: "stopping" };
    case "finalizing":
      return { kind: "finalizing" };
    case "ended": {
      const ended = event.value;
      return {
        kind: "ended",
        end: {
          exitClass: exitClassFromWire(ended.exitClass),
          message: ended.message,
          goneMs: receivedMs - Number(ended.processesGoneAgoMs),
          ...(ended.exitCode === undefined ? {} : { exitCode: ended.exitCode }),
          ...(ended.manifestDigest === "" ? {} : { manifestDigest: ended.manifestDigest }),
          ...(ended.checkpointDigest === "" ? {} : { checkpointDigest: ended.checkpointDigest }),
          ...(ended.logArtifact === "" ? {} : { logArtifact: ended.logArtifact }),
          ...(ended.progress === undefined
            ? {}
            : { progress: stamped(ended.progress, receivedMs) }),
          ...(ended.elements.length === 0 ? {} : { elementResults: toResults(ended.elements) }),
        },
      };
    }
    case undefined:
      return undefined;
  }
}

/** Progress with the time at which it came, serialized. */
export function stamped(progress: Progress, atMs: number): Uint8Array {
  const message = create(ProgressSchema, { ...progress, time: timestampFromMs(atMs) });
  return toBinary(ProgressSchema, message);
}

function toResults(
  elements: readonly {
    exitClass: Parameters<typeof exitClassFromWire>[0];
    ranges: readonly { first: number; last: number }[];
  }[],
): ElementResults {
  const results: Partial<Record<ExitClass, IndexSet>> = {};
  for (const { exitClass, ranges } of elements) {
    const name = exitClassFromWire(exitClass);
    results[name] = indexSet([...(results[name] ?? []), ...ranges]);
  }
  return results;
}

/**
 * The one writer of reports: the messages of all sessions that come in while a transaction is under way go into the
 * next one. An answer means that they are durable.
 */
export function createReportWriter(options: {
  core: Pool;
  clock: Clock;
  log: Logger;
  tracing: Tracing;
  onApplied: (applied: Applied) => void;
}): BatchWriter<readonly AttemptEvent[], void> {
  return createBatchWriter({
    maxItems: 200,
    concurrency: 1,
    write: async (batches: readonly (readonly AttemptEvent[])[]) => {
      const events = batches.flat();
      const nowMs = options.clock.nowMs();
      const startedAt = performance.now();
      const applied = await transaction(options.core, (tx) =>
        applyAttemptEvents(tx, events, nowMs),
      );
      options.onApplied(applied);
      tellEnds(options, applied.endedAttempts, startedAt);
      return batches.map(() => undefined);
    },
  });
}

/** Ends become durable together: each gets its span and its line afterwards, where anybody looks. */
function tellEnds(
  { log, tracing }: { log: Logger; tracing: Tracing },
  ends: readonly EndedAttempt[],
  startTime: number,
): void {
  const logs = log.isLevelEnabled("debug");
  if (tracing === passiveTracing && !logs) return;
  for (const { attempt, task, exitClass, traceparent } of ends) {
    const parent = contextFromTraceparent(traceparent);
    const attributes = {
      "fastgpu.task": task,
      "fastgpu.attempt": attempt,
      "fastgpu.exit_class": exitClass,
    };
    tracing.tracer.startSpan("attempt.end", { startTime, attributes }, parent).end();
    if (logs) {
      log.debug({ trace_id: traceIdOf(parent), task, attempt, exitClass }, "end of attempt stored");
    }
  }
}
