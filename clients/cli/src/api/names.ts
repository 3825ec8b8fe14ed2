import { parseId } from "@fastgpu/domain/ids";
import { CliError } from "../errors/cli-error.ts";

/** What people may name by a bare id. */
const PREFIXES = { tasks: "task", artifacts: "art", nodes: "node", gpus: "gpu" } as const;
type Collection = keyof typeof PREFIXES;

/**
 * The resource name for what was typed: a full name (`projects/p/tasks/task-…`) as it is, a bare id
 * below `parent`. A malformed id is refused here, with what it should look like.
 */
export function resourceName(collection: Collection, typed: string, parent: string): string {
  if (typed.includes("/")) return typed;
  const prefix = PREFIXES[collection];
  if (parseId(prefix, typed) === undefined) {
    throw new CliError(`"${typed}" is not the id of ${article(prefix)}`, {
      why: `an id is ${prefix}- and 26 characters`,
      hint: LISTS[collection],
    });
  }
  return parent === "" ? `${collection}/${typed}` : `${parent}/${collection}/${typed}`;
}

const LISTS: Record<Collection, string> = {
  tasks: "fastgpu task list",
  artifacts: "fastgpu data list",
  nodes: "fastgpu node list",
  gpus: "fastgpu gpu list",
};

function article(prefix: string): string {
  const words: Record<string, string> = {
    task: "a task",
    art: "an artifact",
    node: "a node",
    gpu: "a GPU",
  };
  return words[prefix] ?? prefix;
}
