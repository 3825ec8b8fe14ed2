import { displayWidth, stripControls, wrapped } from "./text.ts";

/** A column of a table over rows of type T. */
export interface Column<T> {
  header: string;
  value(row: T): string;
  /** Only in `-o wide`. */
  wide?: true;
  /** Numbers stand right. */
  align?: "right";
  /** Colours the padded cell; what it means must also be in its text. */
  paint?(cell: string, row: T): string;
}

const GAP = "  ";

/** A table with aligned columns, headers in capitals, one line a row, each line ended. */
export function renderTable<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const cells = rows.map((row) => columns.map((column) => stripControls(column.value(row)) || "-"));
  const widths = columns.map((column, at) =>
    Math.max(displayWidth(column.header), ...cells.map((line) => displayWidth(line[at] ?? ""))),
  );
  const fit = (text: string, at: number): string => {
    const space = " ".repeat((widths[at] ?? 0) - displayWidth(text));
    if (columns[at]?.align === "right") return space + text;
    return at === columns.length - 1 ? text : text + space;
  };
  const header = columns.map((column, at) => fit(column.header.toUpperCase(), at)).join(GAP);
  const lines = rows.map((row, index) =>
    columns
      .map((column, at) => {
        const cell = fit(cells[index]?.[at] ?? "", at);
        return column.paint?.(cell, row) ?? cell;
      })
      .join(GAP),
  );
  return [header, ...lines].map((line) => `${line.trimEnd()}\n`).join("");
}

/**
 * `name: value` lines with the values below each other, broken for a terminal of so many columns; empty values are left out.
 */
export function renderFacts(
  facts: readonly (readonly [name: string, value: string])[],
  columns?: number,
): string {
  const told = facts.filter(([, value]) => value !== "");
  const width = Math.max(0, ...told.map(([name]) => name.length)) + 1;
  return told
    .map(([name, value]) => {
      const text = wrapped(stripControls(value), columns, width + 1);
      return `${`${name}:`.padEnd(width)} ${text}\n`;
    })
    .join("");
}
