import { InvalidArgumentError } from "commander";
import { addOutputOptions, type Runner } from "./define.ts";

/** `scheduler`: how the fleet is planned, and what was decided. */
export function addSchedulerCommands(runner: Runner): void {
  const scheduler = runner.group("scheduler", "how the fleet is planned: policy and replay");
  const policy = scheduler.group("policy", "the policy by which the fleet is planned");
  const show = policy.remote("show", "show the policy that is in force, and where it came from");
  show.run(async () => ({ run: (await import("../run/policy.ts")).showPolicy }));

  const check = policy.remote("check", "check a policy file, and change nothing");
  check.command.argument("<file>", "YAML, or - for standard input");
  check.run(async () => ({ run: (await import("../run/policy.ts")).checkPolicy }));

  const set = policy.remote("set", "set the policy; what runs goes on");
  set.command
    .argument("<file>", "YAML, or - for standard input; an empty one is the shipped policy")
    .option("--revision <number>", "only in place of this revision", revision);
  set.run(async () => ({ run: (await import("../run/policy.ts")).setPolicy }));

  const replay = scheduler.local("replay", "plan recorded cycles again, and compare each decision");
  addOutputOptions(replay.command)
    .argument("[files...]", "recordings; default: all of the data directory")
    .option("--data <directory>", "data directory")
    .option(
      "--from <time>",
      "only cycles from this time on, for example 2026-01-31T08:00:00Z",
      time,
    )
    .option("--to <time>", "only cycles before this time", time);
  replay.run(async () => ({ run: (await import("../run/replay.ts")).replay }));
}

function revision(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError("it must be a whole number");
  return Number(text);
}

function time(text: string): number {
  const ms = Date.parse(text);
  if (Number.isNaN(ms))
    throw new InvalidArgumentError("it must be a time such as 2026-01-31T08:00:00Z");
  return ms;
}
