/** Flags of experiments that have nothing but values, and what becomes of their rows. */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";

/**
 * The flags as typed over their defaults, and `json` where that was given; undefined: help was asked for, and is printed.
 * Throws where a flag is unknown.
 */
export function flagsOf<Name extends string>(
  args: readonly string[],
  of: { readonly usage: string; readonly defaults: Readonly<Record<Name, string>> },
): (Record<Name, string> & { readonly json: string | undefined }) | undefined {
  const names = Object.keys(of.defaults) as Name[];
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...Object.fromEntries(names.map((name) => [name, { type: "string" } as const])),
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help === true) {
    console.log(of.usage);
    return undefined;
  }
  const typed: Readonly<Record<string, unknown>> = values;
  const given = (name: string): string | undefined => {
    const value = typed[name];
    return typeof value === "string" ? value : undefined;
  };
  const all = names.map((name) => [name, given(name) ?? of.defaults[name]] as const);
  return { ...(Object.fromEntries(all) as Record<Name, string>), json: given("json") };
}

/** Prints rows as a table, and writes them to a file where one is named: one JSON object a line. */
export async function tellRows(rows: readonly object[], json: string | undefined): Promise<void> {
  console.table(rows);
  if (json !== undefined) {
    await writeFile(json, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  }
}

/** `1,2.5` as numbers. */
export const numbersOf = (text: string): number[] => text.split(",").map(Number);
