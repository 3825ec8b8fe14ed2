import { parseId } from "@fastgpu/domain/ids";
import { CliError } from "../errors/cli-error.ts";

/** What people may name by a bare id. */
const PREFIXES = {
  tasks: "task",
  artifacts: "art",
  nodes: "node",
  gpus: "gpu",
  reservations: "resv",
} as const;
type Collection = keyof typeof PREFIXES;

/**
 * The resource name for what was typed: a full name (`projects/p/tasks/task-…`) as it is, a bare id
 * below `parent`, which is asked for only then. A malformed id is refused before anything is sent,
 * with what it should look like.
 */
export async function resolveName(
  collection: Collection,
  typed: string,
  parent: () => Promise<string>,
): Promise<string> {
  if (typed.includes("/")) return typed;
  checkId(collection, typed);
  return `${await parent()}/${collection}/${typed}`;
}

/** The same where the parent is known; empty: the collection is at the top. */
export function resourceName(collection: Collection, typed: string, parent: string): string {
  if (typed.includes("/")) return typed;
  checkId(collection, typed);
  return parent === "" ? `${collection}/${typed}` : `${parent}/${collection}/${typed}`;
}

function checkId(collection: Collection, typed: string): void {
  const prefix = PREFIXES[collection];
  if (parseId(prefix, typed) !== undefined) return;
  throw new CliError(`"${typed}" is not the id of ${article(prefix)}`, {
    why: `an id is ${prefix}- and 26 characters`,
    hint: LISTS[collection],
  });
}

const LISTS: Record<Collection, string> = {
  tasks: "fastgpu task list",
  artifacts: "fastgpu data list",
  nodes: "fastgpu node list",
  gpus: "fastgpu gpu list",
  reservations: "fastgpu reservation list",
};

function article(prefix: string): string {
  const words: Record<string, string> = {
    task: "a task",
    art: "an artifact",
    node: "a node",
    gpu: "a GPU",
    resv: "a reservation",
  };
  return words[prefix] ?? prefix;
}
