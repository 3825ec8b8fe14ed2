import { resolve } from "node:path";
import type { Remedy } from "@fastgpu/contracts/fastgpu/scheduler/v1/explain_pb";

/** Options that say how to print, by whether a value follows. */
const printing = new Map([
  ["-o", true],
  ["--format", true],
  ["-q", false],
  ["--quiet", false],
]);

/**
 * The command that submits what a `task quote` asked about, as a remedy changes it: what was typed, with files by their full
 * paths and the project in words, so that it does the same wherever it is pasted. Empty where the remedy is no change of
 * the task, or the task came from standard input.
 */
export function submitCommand(
  args: readonly string[],
  { changes, project }: Pick<Remedy, "changes" | "project">,
  parent: string,
): string {
  if (changes.length === 0 && project === "") return "";
  const end = args.indexOf("--");
  const options = args.slice(args.indexOf("quote") + 1, end < 0 ? undefined : end);
  const kept: string[] = [];
  for (let at = 0; at < options.length; at++) {
    const word = options[at]!;
    const [name, value] = optionOf(word);
    const follows = printing.get(name) ?? (name === "--project" || undefined);
    if (follows !== undefined) {
      if (follows && value === undefined) at++;
      continue;
    }
    if (name !== "-f" && name !== "--file") {
      kept.push(word);
      continue;
    }
    const file = value ?? options[++at] ?? "";
    if (file === "-") return "";
    kept.push("--file", resolve(file));
  }
  const sets = changes.flatMap(({ fieldPath, valueJson }) => [
    "--set",
    `${fieldPath}=${valueJson}`,
  ]);
  const words = [
    ...["fastgpu", "task", "run", "--detach", "--project", project === "" ? parent : project],
    ...[...kept, ...sets, ...(end < 0 ? [] : args.slice(end))],
  ];
  return words.map(quoted).join(" ");
}

/** `--file=x` and `-fx` as name and value; a value of its own word is undefined. */
function optionOf(word: string): readonly [name: string, value: string | undefined] {
  const long = /^(--[^=]+)=(.*)$/s.exec(word);
  if (long !== null) return [long[1]!, long[2]];
  const short = /^(-[ofq])(.+)$/s.exec(word);
  return short === null ? [word, undefined] : [short[1]!, short[2]];
}

/** One word for a shell. */
const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
