import { InvalidArgumentError } from "commander";
import { wholeNumber } from "../parse/quantities.ts";
import type { Runner } from "./define.ts";

/** `queue`: shares of the fleet. */
export function addQueueCommands(runner: Runner): void {
  const queue = runner.group("queue", "shares of the fleet: weights, guarantees and limits");
  const list = queue.remote("list", "list the queues of the organisation that were changed");
  list.run(async () => ({ run: (await import("../run/queue.ts")).listQueues }));

  const get = queue.remote("get", "show a queue; without a name that of the project");
  get.command.argument("[queue]", owner);
  get.run(async () => ({ run: (await import("../run/queue.ts")).getQueue }));

  const set = queue.remote("set", "change a queue; without a name that of the project");
  set.command
    .argument("[queue]", owner)
    .option("--user <user>", "the queue of this user of the project, for example key-01j…")
    .option("--weight <number>", "share beside the other queues, at least 1", count)
    .option("--guaranteed <gpus>", "GPUs that it gets before others", count)
    .option("--limit <gpus>", 'GPUs that it never holds more of, or "none"', countOrNone)
    .option(
      "--model-limit <model=gpus>",
      'the same for one model, or "none"; repeatable',
      ofModel(countOrNone),
    )
    .option(
      "--model-guaranteed <model=gpus>",
      "GPUs of one model that it gets before others; repeatable",
      ofModel(count),
    );
  set.run(async () => ({ run: (await import("../run/queue.ts")).setQueue }));
}

const owner =
  "organizations/ORGANIZATION, projects/PROJECT (or the id alone) or projects/PROJECT/users/USER";

/** Collects `MODEL=VALUE`. */
function ofModel<T>(parse: (text: string) => T) {
  return (text: string, before: Record<string, T> = {}): Record<string, T> => {
    const at = text.lastIndexOf("=");
    if (at < 1) throw new InvalidArgumentError('MODEL=GPUS is wanted, for example "NVIDIA H200=4"');
    return { ...before, [text.slice(0, at)]: parse(text.slice(at + 1)) };
  };
}

const count = wholeNumber(0, 1_000_000);

const countOrNone = (text: string): number | "none" => (text === "none" ? "none" : count(text));
