import { create, toBinary } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Progress } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import { ReportSchema } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { bootId, recentBootMs } from "../boot-time.ts";
import type { Journal } from "../journal/journal.ts";
import { exitClassToWire, rangesToWire } from "../session/wire.ts";
import type { End } from "./classify.ts";
import type { Effect, Kept } from "./machine.ts";

type ReportEvent = NonNullable<MessageInitShape<typeof ReportSchema>["event"]>;
type ReportEffect = Extract<Effect, { do: "report" | "reportRunning" | "reportEnded" }>;

const maxMessage = 1_024;

/** Journals what happened to an attempt; resolves with the report's id once it is durable. */
export async function journalReport(
  journal: Journal,
  of: {
    readonly attempt: string;
    readonly epoch: bigint;
    readonly progress?: Progress | undefined;
  },
  effect: ReportEffect,
): Promise<bigint> {
  const nowMs = recentBootMs();
  const { attempt, epoch, progress } = of;
  const report = create(ReportSchema, { attempt, epoch, event: eventOf(effect, nowMs) });
  if (report.event.case === "ended" && progress !== undefined) {
    report.event.value.progress = progress;
  }
  const entry = await journal.append({
    bootMs: nowMs,
    bootId: bootId(),
    wallMs: Date.now(),
    report: toBinary(ReportSchema, report),
  });
  return entry.id;
}

function eventOf(effect: ReportEffect, nowMs: number): ReportEvent {
  switch (effect.do) {
    case "report":
      return { case: effect.what, value: {} };
    case "reportRunning":
      return { case: "running", value: { isolation: effect.isolation } };
    case "reportEnded":
      return { case: "ended", value: endedOf(effect.end, effect.kept, nowMs) };
  }
}

function endedOf(
  end: End,
  kept: Kept,
  nowMs: number,
): Extract<ReportEvent, { case: "ended" }>["value"] {
  return {
    exitClass: exitClassToWire(end.exitClass),
    ...(end.exitCode === undefined ? {} : { exitCode: end.exitCode }),
    message: end.message.slice(0, maxMessage),
    // The age at the time of the report; the time until it is sent is added then.
    processesGoneAgoMs: BigInt(Math.max(0, nowMs - end.goneBootMs)),
    manifestDigest: kept.manifestDigest,
    checkpointDigest: kept.checkpointDigest ?? "",
    logArtifact: kept.logArtifact,
    elements: end.elements.map(({ exitClass, ranges }) => ({
      exitClass: exitClassToWire(exitClass),
      ranges: rangesToWire(ranges),
    })),
  };
}
