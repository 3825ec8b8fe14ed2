import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { CliError } from "../errors/cli-error.ts";

/** The text of a file, or of standard input for `-`. Throws a CliError where it cannot be read. */
export async function readInput(file: string): Promise<string> {
  try {
    return file === "-" ? await text(process.stdin) : await readFile(file, "utf8");
  } catch (cause) {
    throw new CliError(`${file} cannot be read`, { why: (cause as Error).message, cause });
  }
}
