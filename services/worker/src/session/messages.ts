import { create, fromBinary } from "@bufbuild/protobuf";
import {
  type ConnectRequest,
  ConnectRequestSchema,
  type Report,
  ReportSchema,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { recentBootMs } from "../boot-time.ts";
import type { JournalEntry } from "../journal/journal.ts";

const maxReports = 1_000;

/** Journal entries as messages, each report with its age now. */
export function reportMessages(
  entries: readonly JournalEntry[],
  currentBootId: string,
): ConnectRequest[] {
  const messages: ConnectRequest[] = [];
  for (let at = 0; at < entries.length; at += maxReports) {
    const reports = entries.slice(at, at + maxReports).map((e) => reportOf(e, currentBootId));
    messages.push(
      create(ConnectRequestSchema, { message: { case: "reports", value: { reports } } }),
    );
  }
  return messages;
}

/** Ages are counted since boot; across a reboot only the wall clock remains. */
function reportOf(entry: JournalEntry, currentBootId: string): Report {
  const report = fromBinary(ReportSchema, entry.report);
  const ageMs =
    entry.bootId === currentBootId ? recentBootMs() - entry.bootMs : Date.now() - entry.wallMs;
  const ago = BigInt(Math.max(0, Math.round(ageMs)));
  report.reportId = entry.id;
  report.agoMs = ago;
  if (report.event.case === "ended") report.event.value.processesGoneAgoMs += ago;
  return report;
}
