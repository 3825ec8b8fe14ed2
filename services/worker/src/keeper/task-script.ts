import { renameSync, writeFileSync } from "node:fs";

/** `text` as one word of a shell. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Names that a shell keeps for itself, or lets nobody set. */
const shellsOwn = /^(?:_|IFS|ENV|OPTIND|LINENO|PPID|PS[0-4]|E?UID|SHELLOPTS|BASH\w*)$/;

function canExport(name: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !shellsOwn.test(name);
}

/** What the waiting shell of a sandbox is told to become. */
export interface TaskScript {
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /**
   * `child`: runs the command and stays, as the parent that reaps. `replace`: becomes the command, so that the death
   * signal stays with it. `lane`: runs it for each index that comes.
   */
  readonly how: "child" | "replace" | "lane";
  /** For lanes: the folder of the task's checkpoints. */
  readonly checkpoints: string | undefined;
}

/** An element a line from descriptor 4, its exit code to descriptor 5. */
function laneLines(command: string, checkpoints: string | undefined): string[] {
  const own =
    checkpoints === undefined ? [] : [`export FASTGPU_CHECKPOINT_DIR=${quote(checkpoints)}"/$i"`];
  return [
    "while IFS= read -r i <&4; do",
    ...own,
    `FASTGPU_ARRAY_INDEX=$i ${command} 4<&- 5>&-; echo "$i $?" >&5; done`,
    "exit 0",
  ];
}

/**
 * Writes the script to `path`, readable by the task's user only: its environment is in it. It takes the place of an
 * older one whole: the shell of another lane may be about to read that, and must not find it empty.
 */
export function writeTaskScript(path: string, script: TaskScript): void {
  const names = Object.keys(script.env);
  const value = (name: string): string => quote(script.env[name] ?? "");
  const exported = names.filter(canExport).map((name) => `export ${name}=${value(name)}`);
  const others = names.filter((name) => !canExport(name));
  const words = [
    ...(others.length === 0 ? [] : ["/usr/bin/env"]),
    ...others.map((name) => quote(`${name}=${script.env[name] ?? ""}`)),
    ...script.command.map(quote),
  ];
  const command = words.join(" ");
  const lines = [`cd ${quote(script.workdir)} || exit 125`, ...exported];
  if (script.how === "lane") lines.push(...laneLines(command, script.checkpoints));
  if (script.how === "child") lines.push("exec 4<&- 5>&-", `${command}; exit $?`);
  if (script.how === "replace") lines.push("exec 4<&- 5>&-", `exec ${command}`);
  const fresh = `${path}.new`;
  writeFileSync(fresh, `${lines.join("\n")}\n`, { mode: 0o600 });
  renameSync(fresh, path);
}
