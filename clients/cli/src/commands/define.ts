import { Command, Option } from "commander";
import type { CliContext, Run } from "../context.ts";
import { outputFormats } from "../output/print.ts";
import { durationMs } from "../parse/quantities.ts";

/** Where a command leaves its exit code. */
export interface Outcome {
  exitCode: number;
}

/** Makes groups and commands whose code is loaded when they run. */
export interface Runner {
  /** A group of commands at the top level, for example `task`. */
  group(name: string, description: string): Group;
  /** A command at the top level that talks to no gateway. */
  local(name: string, description: string): Definition;
}

/** A group of commands. */
export interface Group {
  /** A command that talks to the gateway: takes the common options. */
  remote(name: string, description: string): Definition;
  /** A command that does not. */
  local(name: string, description: string): Definition;
  /** A group below this one. */
  group(name: string, description: string): Group;
}

/** A command whose arguments and options are being declared; `run` ends the declaration. */
export interface Definition {
  readonly command: Command;
  /** Loads the code at the first need and runs it with the options and arguments. */
  run(load: () => Promise<{ run: Run }>): void;
}

/** The runner over a program. */
export function addRunner(program: Command, context: CliContext, outcome: Outcome): Runner {
  const define = (parent: Command, name: string, description: string): Definition => {
    const command = parent.command(name).description(description);
    return {
      command,
      run(load) {
        command.action(async (...given: unknown[]) => {
          // Commander appends the parsed options and the command itself.
          const args = given.slice(0, -2);
          const { run } = await load();
          // What commander parsed has no type; the declaration beside it is what makes it fit.
          const code = await run(context, command.opts() as never, ...(args as never[]));
          outcome.exitCode = code ?? 0;
        });
      },
    };
  };
  const groupOf = (parent: Command, name: string, description: string): Group => {
    const group = parent.command(name).description(description).helpCommand(false);
    return {
      local: (child, text) => define(group, child, text),
      remote(child, text) {
        const definition = define(group, child, text);
        addCommonOptions(definition.command);
        return definition;
      },
      group: (child, text) => groupOf(group, child, text),
    };
  };
  return {
    local: (name, description) => define(program, name, description),
    group: (name, description) => groupOf(program, name, description),
  };
}

/** -o and --quiet. */
export function addOutputOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        "-o, --format <format>",
        "how to print; default: table on a terminal, else json",
      ).choices(outputFormats),
    )
    .option("-q, --quiet", "print only ids");
}

/** Which platform, and where in it. */
export function addSettingsOptions(command: Command): Command {
  return command
    .option("--context <name>", "context to use")
    .option("--address <host:port>", "the gateway")
    .option("--project <project>", "project to act in")
    .option("--org <organization>", "organisation to act in");
}

function addCommonOptions(command: Command): void {
  addSettingsOptions(addOutputOptions(command)).option(
    "--timeout <duration>",
    "deadline of each call, for example 30s",
    durationMs,
  );
}
