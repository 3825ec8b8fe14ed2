/** Flags of experiments, and what becomes of their rows. */
import { open, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";

/** A flag or a file that cannot be used; the message is for the person who gave it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Opens the files that shall take results, so that no hour of work ends at a path that cannot be written. Throws UsageError. */
export async function checkOutputs(args: readonly string[]): Promise<void> {
  for (const [at, arg] of args.entries()) {
    const flag = /^--(?:json|html)(?:=(.*))?$/s.exec(arg);
    const file = flag === null ? undefined : (flag[1] ?? args[at + 1]);
    if (file === undefined) continue;
    const handle = await open(file, "a").catch((cause: unknown) => cannotWrite(file, cause));
    await handle.close();
  }
}

function cannotWrite(file: string, cause: unknown): never {
  const why = cause instanceof Error ? cause.message : String(cause);
  throw new UsageError(`cannot write ${file}: ${why}`, { cause });
}

/** What an experiment takes: flags with a default, flags that may be left out, and switches. */
interface Takes<Text extends string, Maybe extends string, Switch extends string> {
  readonly usage: string;
  readonly defaults: Readonly<Record<Text, string>>;
  readonly optional?: readonly Maybe[];
  readonly switches?: readonly Switch[];
}

/** The flags as typed, and `json` where that was given. */
type Flags<Text extends string, Maybe extends string, Switch extends string> = Readonly<
  Record<Text, string> & Record<Maybe | "json", string | undefined> & Record<Switch, boolean>
>;

/**
 * The flags as typed over their defaults; undefined: help was asked for, and is printed. Throws UsageError where a flag
 * is unknown or has no value.
 */
export function flagsOf<
  Text extends string,
  Maybe extends string = never,
  Switch extends string = never,
>(args: readonly string[], of: Takes<Text, Maybe, Switch>): Flags<Text, Maybe, Switch> | undefined {
  const { usage, defaults, optional = [], switches = [] } = of;
  const texts = [...Object.keys(defaults), ...optional, "json"];
  const options = Object.fromEntries([
    ...texts.map((name) => [name, { type: "string" }] as const),
    ...switches.map((name) => [name, { type: "boolean", default: false }] as const),
    ["help", { type: "boolean", short: "h", default: false }] as const,
  ]);
  let values: Readonly<Record<string, unknown>>;
  try {
    ({ values } = parseArgs({ args: [...args], options }));
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
  if (values["help"] === true) {
    process.stdout.write(usage);
    return undefined;
  }
  // The options say which are there, and of which type.
  return { ...defaults, ...values } as Flags<Text, Maybe, Switch>;
}

/** The value of a flag without which nothing can be done. */
export function needed(name: string, value: string | undefined): string {
  if (value === undefined) throw new UsageError(`--${name} is missing`);
  return value;
}

/** A number within bounds. */
export function numberOf(
  name: string,
  text: string,
  { least = 0, most = Number.MAX_SAFE_INTEGER } = {},
): number {
  const value = text === "" ? Number.NaN : Number(text);
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${name}: "${text}" is not a number from ${least} to ${most}`);
}

/** A whole number, at least 1 unless `least` says otherwise. */
export function countOf(name: string, text: string, least = 1): number {
  const value = numberOf(name, text, { least });
  if (Number.isInteger(value)) return value;
  throw new UsageError(`--${name}: "${text}" is not a whole number`);
}

/** `1,2.5`: each read by `read`. */
export const listOf = <Value>(text: string, read: (part: string) => Value): Value[] =>
  text.split(",").map((part) => read(part.trim()));

/** Writes rows to a file where one is named: one JSON object a line. Throws UsageError. */
export async function writeRows(file: string | undefined, rows: readonly object[]): Promise<void> {
  if (file === undefined) return;
  const text = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
  await writeFile(file, text).catch((cause: unknown) => cannotWrite(file, cause));
}

/** Prints rows as a table, and writes them as {@link writeRows} does. */
export async function tellRows(rows: readonly object[], file: string | undefined): Promise<void> {
  console.table(rows);
  await writeRows(file, rows);
}
