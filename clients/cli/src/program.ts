import { Command } from "commander";
import { addAccessCommands } from "./commands/access.ts";
import { addBillingCommands } from "./commands/billing.ts";
import { addConfigCommands } from "./commands/config.ts";
import { addDataCommands } from "./commands/data.ts";
import { type Outcome, addRunner } from "./commands/define.ts";
import { addFleetCommands } from "./commands/fleet.ts";

import { addPlatformCommands } from "./commands/platform.ts";
import { addQueueCommands } from "./commands/queue.ts";
import { addReservationCommands } from "./commands/reservation.ts";
import { addSchedulerCommands } from "./commands/scheduler.ts";
import { addTaskCommands } from "./commands/task.ts";
import type { CliContext } from "./context.ts";
import { CliError } from "./errors/cli-error.ts";
import { EXIT_CODES_HELP } from "./errors/exit-codes.ts";
import { VERSION } from "./version.ts";

const EXAMPLES = `
Examples:
  fastgpu start                                                       a whole platform on this machine
  fastgpu task run --gpus 1 --image IMAGE -- python train.py          run, follow, end with its exit code
  fastgpu task list --state running -o wide
  fastgpu task logs --follow TASK

Results go to standard output, everything else to standard error. More: fastgpu help exit-codes,
fastgpu help environment.
`;

const ENVIRONMENT_HELP = `Environment

  FASTGPU_ADDRESS   host and port of the gateway, instead of the context's
  FASTGPU_API_KEY   API key, instead of the context's
  FASTGPU_PROJECT   project for tasks and files, instead of the context's
  FASTGPU_ORG       organisation, instead of the context's
  FASTGPU_CONTEXT   context to use, instead of the current one
  FASTGPU_CONFIG    configuration file, instead of $XDG_CONFIG_HOME/fastgpu/config.yaml
  FASTGPU_DEBUG     any value: errors with the place where they happened
  NO_COLOR          any value: no colours (https://no-color.org); FORCE_COLOR: colours in a pipe too
`;

/** The whole command tree. Only what its definition needs is loaded; each command's code comes when it runs. */
export function buildProgram(context: CliContext, outcome: Outcome): Command {
  const program = new Command("fastgpu")
    .description("Turns GPUs that you own or rent into a cloud.")
    .version(VERSION, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .helpCommand(false)
    .addHelpText("after", EXAMPLES)
    .showHelpAfterError(false)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => context.terminal.out(text),
      // Help that was not asked for, and errors: main prints one report in their place.
      writeErr: () => undefined,
    });
  program.enablePositionalOptions();

  const runner = addRunner(program, context, outcome);

  addPlatformCommands(runner);
  addConfigCommands(runner);
  addTaskCommands(runner);
  addFleetCommands(runner);
  addQueueCommands(runner);
  addReservationCommands(runner);
  addSchedulerCommands(runner);
  addBillingCommands(runner);
  addDataCommands(runner);
  addAccessCommands(runner);
  program
    .command("help")
    .description("help on a command, on exit-codes or on the environment")
    .argument("[topic...]")
    .action((topic: string[]) => showHelp(program, context, topic));
  return program;
}

function showHelp(program: Command, context: CliContext, topic: readonly string[]): void {
  if (topic[0] === "exit-codes") return context.terminal.out(EXIT_CODES_HELP);
  if (topic[0] === "environment") return context.terminal.out(ENVIRONMENT_HELP);
  let command = program;
  for (const name of topic) {
    const next = command.commands.find(
      (known) => known.name() === name || known.aliases().includes(name),
    );
    if (next === undefined) {
      throw new CliError(`there is no command "${[...topic].join(" ")}"`, {
        hint: "fastgpu --help",
      });
    }
    command = next;
  }
  command.outputHelp();
}
