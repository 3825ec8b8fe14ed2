import { Fault } from "@fastgpu/domain/fault";
import { stripControls } from "../output/text.ts";
import { CliError } from "./cli-error.ts";
import { type ExitCode, exitCodeOfFault, exitCodes } from "./exit-codes.ts";

/** A failure as it is shown: to people as lines, to programs as JSON. */
export interface ErrorReport {
  exitCode: ExitCode;
  message: string;
  why: string[];
  hint?: string;
  code?: string;
  reason?: string;
  requestId?: string;
  fields: readonly { field: string; description: string }[];
}

/** Sorts any thrown value into what can be said about it. */
export function reportOf(thrown: unknown): ErrorReport {
  if (thrown instanceof CliError) {
    return {
      exitCode: thrown.exitCode,
      message: thrown.message,
      why: thrown.why === undefined ? [] : [thrown.why],
      ...(thrown.hint === undefined ? {} : { hint: thrown.hint }),
      fields: [],
    };
  }
  if (thrown instanceof Fault) return reportOfFault(thrown);
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  return {
    exitCode: exitCodes.internal,
    message: error.message,
    why: ["this is a fault of the command line itself"],
    hint: "set FASTGPU_DEBUG=1 to see where it happened",
    fields: [],
  };
}

function reportOfFault(fault: Fault): ErrorReport {
  const hint = fault.hint ?? hintFor(fault);
  const requestId = fault.metadata["request_id"];
  // One violation is usually what the message says already.
  const told = fault.violations.filter(
    ({ field, description }) =>
      fault.message !== `${field}: ${description}` && fault.message !== description,
  );
  return {
    exitCode: exitCodeOfFault(fault.code),
    message: fault.message,
    why: told.map(({ field, description }) => `${field}: ${description}`),
    ...(hint === undefined ? {} : { hint }),
    code: fault.code,
    reason: fault.reason,
    ...(requestId === undefined ? {} : { requestId }),
    fields: fault.violations.map(({ field, description }) => ({ field, description })),
  };
}

/** What helps against a reason when the server gave no hint of its own. */
function hintFor(fault: Fault): string | undefined {
  switch (fault.reason) {
    case "UNAUTHENTICATED":
    case "TOKEN_EXPIRED":
      return "fastgpu config set --key KEY, or set FASTGPU_API_KEY";
    case "PERMISSION_DENIED":
      return "fastgpu config list shows the contexts you have; another key may hold the permission";
    case "NOT_FOUND":
      return "check the name with the matching list command, and the project with fastgpu config print";
    case "BUDGET_EXHAUSTED":
      return "fastgpu billing balance";
    case "UNAVAILABLE":
    case "DRAINING":
    case "WORKER_UNREACHABLE":
      return "the same command again in a moment; fastgpu doctor checks this machine";
    case "DEADLINE_EXCEEDED":
      return "the same command with a longer --timeout";
    case "RATE_LIMITED":
    case "STALE_ETAG":
      return "the same command again in a moment";
    case "REVISION_TOO_OLD":
      return "start again from the present state";
    case "CHECKSUM_MISMATCH":
      return "send or fetch the file again";
    case "INTERNAL":
      return "report it with the request id; nothing else about it leaves the platform";
    case "INVALID_FIELD":
    case "UNKNOWN_FIELD":
    case "LIMIT_EXCEEDED":
    case "REQUEST_ID_REUSED":
    case "ALREADY_EXISTS":
    case "ILLEGAL_STATE":
    case "FENCED":
    case "QUOTA_EXCEEDED":
    case "JOIN_TOKEN_USED":
    case "CANCELLED":
      return undefined;
  }
}

/** The lines that people see: what, why, what to try, and the request id to quote. */
export function renderReport(report: ErrorReport, paint: (text: string) => string): string {
  const lines = [`${paint("error:")} ${stripControls(report.message)}`];
  for (const why of report.why) lines.push(`  why: ${stripControls(why)}`);
  if (report.hint !== undefined) lines.push(`  try: ${stripControls(report.hint)}`);
  if (report.requestId !== undefined)
    lines.push(`  request id: ${stripControls(report.requestId)}`);
  return `${lines.join("\n")}\n`;
}

/** The same as one line of JSON, for programs that asked for JSON. */
export function renderReportJson(report: ErrorReport): string {
  const { exitCode, message, code, reason, hint, requestId, fields, why } = report;
  const error = { message, code, reason, why, hint, fields, requestId, exitCode };
  return `${JSON.stringify({ error })}\n`;
}
