import { InvalidArgumentError } from "commander";
import type { Runner } from "./define.ts";

/** `queue`: shares of the fleet. */
export function addQueueCommands(runner: Runner): void {
  const queue = runner.group("queue", "shares of the fleet: weights, guarantees and limits");
  const list = queue.remote("list", "list the queues of the organisation that were changed");
  list.run(async () => ({ run: (await import("../run/queue.ts")).listQueues }));

  const get = queue.remote("get", "show a queue; without a name that of the project");
  get.command.argument("[queue]", "projects/PROJECT or organizations/ORGANIZATION");
  get.run(async () => ({ run: (await import("../run/queue.ts")).getQueue }));

  const set = queue.remote("set", "change a queue; without a name that of the project");
  set.command
    .argument("[queue]", "projects/PROJECT or organizations/ORGANIZATION")
    .option("--weight <number>", "share beside the other queues, at least 1", count)
    .option("--guaranteed <gpus>", "GPUs that it gets before others", count)
    .option("--limit <gpus>", 'GPUs that it never holds more of, or "none"', countOrNone);
  set.run(async () => ({ run: (await import("../run/queue.ts")).setQueue }));
}

function count(text: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new InvalidArgumentError("it must be a whole number");
  return Number(text);
}

const countOrNone = (text: string): number | "none" => (text === "none" ? "none" : count(text));
