import { type Runner, addOutputOptions, addSettingsOptions } from "./define.ts";

/** `config`: contexts, each a platform and who one is there. */
export function addConfigCommands(runner: Runner): void {
  const config = runner.group("config", "contexts: which platform, with which key");

  const list = config.local("list", "list the contexts");
  addOutputOptions(list.command);
  list.run(async () => ({ run: (await import("../run/config.ts")).listContexts }));

  const use = config.local("use", "make a context the current one");
  use.command.argument("<name>", "the context");
  use.run(async () => ({ run: (await import("../run/config.ts")).useContext }));

  const set = config.local("set", "add or change a context and make it the current one");
  set.command
    .argument("[name]", "the context; default: the current one, else default")
    .option("--address <host:port>", "the gateway")
    .option("--key <key>", "API key; - reads it from standard input, so that no history keeps it")
    .option("--project <project>", "default project")
    .option("--org <organization>", "organisation");
  set.run(async () => ({ run: (await import("../run/config.ts")).setContext }));

  const remove = config.local("remove", "remove a context");
  remove.command.argument("<name>", "the context");
  remove.run(async () => ({ run: (await import("../run/config.ts")).removeContext }));

  const print = config.local("print", "print the settings in force and where each comes from");
  addSettingsOptions(addOutputOptions(print.command)).option(
    "--services <file>",
    "print the services' settings by this fastgpu.yaml instead",
  );
  print.run(async () => ({ run: (await import("../run/config.ts")).printSettings }));
}
