import type { Column } from "./table.ts";
import { renderFacts, renderTable } from "./table.ts";
import type { Terminal } from "./terminal.ts";

/** How results are printed. */
export const outputFormats = ["table", "wide", "json", "ndjson", "yaml"] as const;
export type OutputFormat = (typeof outputFormats)[number];

/** What decides how a result is printed. */
export interface PrintOptions {
  terminal: Terminal;
  /** As asked for by `-o`; absent: a table for a person, JSON for a program. */
  format: OutputFormat | undefined;
  /** Only ids, one a line. */
  quiet: boolean;
}

/** How one kind of thing is shown in each format. */
export interface View<T> {
  columns: readonly Column<T>[];
  /** Its short name, for --quiet. */
  id(value: T): string;
  /** The API's own JSON form, for json, ndjson and yaml. */
  json(value: T): unknown;
  /** `name: value` lines for a single one; absent: a table with one row. */
  facts?(value: T): readonly (readonly [name: string, value: string])[];
}

/** The format in force. */
export function effectiveFormat({ terminal, format }: PrintOptions): OutputFormat {
  return format ?? (terminal.outIsTty ? "table" : "json");
}

/** Whether a person reads the result: then more tables and hints may follow it. */
export function isForPeople(options: PrintOptions): boolean {
  return !options.quiet && ["table", "wide"].includes(effectiveFormat(options));
}

/** Prints a list: in JSON and YAML an array, in NDJSON one value a line. */
export async function printList<T>(
  options: PrintOptions,
  view: View<T>,
  values: readonly T[],
  emptyHint: string,
): Promise<void> {
  const { terminal, quiet } = options;
  if (quiet) {
    terminal.out(values.map((value) => `${view.id(value)}\n`).join(""));
    return;
  }
  const format = effectiveFormat(options);
  if (format === "table" || format === "wide") {
    if (values.length === 0) terminal.err(`${emptyHint}\n`);
    else terminal.out(renderTable(columnsOf(view, format), values));
    return;
  }
  const forms = values.map((value) => view.json(value));
  if (format === "ndjson") terminal.out(forms.map((form) => `${JSON.stringify(form)}\n`).join(""));
  else await printForm(terminal, format, forms);
}

/** Prints one value. */
export async function printOne<T>(options: PrintOptions, view: View<T>, value: T): Promise<void> {
  const { terminal, quiet } = options;
  if (quiet) {
    terminal.out(`${view.id(value)}\n`);
    return;
  }
  const format = effectiveFormat(options);
  if (format === "table" || format === "wide") {
    terminal.out(
      view.facts
        ? renderFacts(view.facts(value), terminal.columns)
        : renderTable(columnsOf(view, format), [value]),
    );
    return;
  }
  if (format === "ndjson") terminal.out(`${JSON.stringify(view.json(value))}\n`);
  else await printForm(terminal, format, view.json(value));
}

async function printForm(
  terminal: Terminal,
  format: "json" | "yaml",
  form: unknown,
): Promise<void> {
  if (format === "json") {
    terminal.out(`${JSON.stringify(form, null, 2)}\n`);
    return;
  }
  const { toYaml } = await import("./yaml.ts");
  terminal.out(toYaml(form));
}

function columnsOf<T>(view: View<T>, format: "table" | "wide"): readonly Column<T>[] {
  return format === "wide" ? view.columns : view.columns.filter((column) => !column.wide);
}
