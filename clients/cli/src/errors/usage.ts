import type { Command, CommanderError } from "commander";
import { exitCodes } from "./exit-codes.ts";
import type { ErrorReport } from "./report.ts";

/** What commander says about wrong arguments, in the form of every other error. */
export function reportOfUsage(error: CommanderError, program: Command): ErrorReport {
  const [first = "", ...rest] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = /\(Did you mean (?:one of )?(.+)\?\)/.exec(rest.join(" "))?.[1];
  const usage = commandOf(program, process.argv.slice(2));
  return {
    exitCode: exitCodes.usage,
    message: error.code === "commander.help" ? `${usage} needs a subcommand` : first,
    why: [],
    hint: suggestion === undefined ? `${usage} --help` : `${suggestion}, or ${usage} --help`,
    code: "USAGE",
    reason: error.code.replace(/^commander\./, ""),
    fields: [],
  };
}

/** A value that the platform refused, without a word on what would do: the command's help says what may be given. */
export function pointToHelp(report: ErrorReport, program: Command): ErrorReport {
  const value = /^(INVALID_FIELD|UNKNOWN_FIELD|LIMIT_EXCEEDED)$/.test(report.reason ?? "");
  if (!value || report.hint !== undefined) return report;
  return { ...report, hint: `${commandOf(program, process.argv.slice(2))} --help` };
}

/** `fastgpu task run` for its arguments: the deepest command that they name. */
function commandOf(program: Command, args: readonly string[]): string {
  let path = program.name();
  let command: Command | undefined = program;
  for (const arg of args) {
    if (arg === "--") break;
    if (arg.startsWith("-")) continue;
    command = command.commands.find(
      (known) => known.name() === arg || known.aliases().includes(arg),
    );
    if (command === undefined) break;
    path += ` ${command.name()}`;
  }
  return path;
}
