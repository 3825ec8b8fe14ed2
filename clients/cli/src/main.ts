import { constants } from "node:os";
import { CommanderError } from "commander";
import type { CliContext } from "./context.ts";
import { pointToHelp, reportOfUsage } from "./errors/usage.ts";
import { renderReport, renderReportJson, reportOf } from "./errors/report.ts";
import { exitCodes } from "./errors/exit-codes.ts";
import { createTerminal } from "./output/terminal.ts";
import { buildProgram } from "./program.ts";

/** The command line's whole life: parses the arguments, runs one command, sets the exit code. */
export async function main(): Promise<void> {
  leaveQuietlyOnClosedPipe();
  const terminal = createTerminal(process, process.env);
  const context: CliContext = {
    env: process.env,
    terminal,
    args: process.argv.slice(2),
    nowMs: () => Date.now(),
    interruptible,
  };
  const outcome: { exitCode: number } = { exitCode: exitCodes.ok };
  const program = buildProgram(context, outcome);
  try {
    if (process.argv.length === 2) program.outputHelp();
    else await program.parseAsync(process.argv);
    await leave(outcome.exitCode);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return;
    const report =
      error instanceof CommanderError
        ? reportOfUsage(error, program)
        : pointToHelp(reportOf(error), program);
    const asJson = asksForJson(process.argv);
    terminal.err(asJson ? renderReportJson(report) : renderReport(report, terminal.paintErr.red));
    if (process.env["FASTGPU_DEBUG"] && error instanceof Error) terminal.err(`${error.stack}\n`);
    await leave(report.exitCode);
  }
}

/**
 * Ends the process, whatever still holds its event loop: a command that has failed must not hang on
 * what it had begun. What was written goes out first: a pipe takes 64 KiB, then as much as its reader reads.
 */
async function leave(code: number): Promise<never> {
  const written = [process.stdout, process.stderr].map(
    (stream) => new Promise<void>((resolve) => stream.write("", () => resolve())),
  );
  await Promise.all(written);
  process.exit(code);
}

/** Whether JSON was asked for in words; a pipe alone does not make errors unreadable for people. */
function asksForJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv
    .slice(0, end < 0 ? undefined : end)
    .some(
      (arg, at) =>
        /^(-o|--format=)(json|ndjson)$/.test(arg) ||
        ((arg === "-o" || arg === "--format") && /^(json|ndjson)$/.test(argv[at + 1] ?? "")),
    );
}

/** `fastgpu task list | head` must end without a stack trace, as if by SIGPIPE. */
function leaveQuietlyOnClosedPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(128 + constants.signals.SIGPIPE);
      throw error;
    });
  }
}

function interruptible(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(128 + constants.signals[name]);
      controller.abort(name);
    });
  }
  return controller.signal;
}
