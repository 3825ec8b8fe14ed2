/** Median and spread of repeats, and the table that people read. */
import { median } from "./figures.ts";

/** What was measured of a subject. */
export interface Row {
  readonly name: string;
  /** Operations per second. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly all: readonly number[];
}

/** The median with the extremes. */
export function summarise(name: string, all: readonly number[]): Row {
  return { name, median: median(all), min: Math.min(...all), max: Math.max(...all), all };
}

/** The median over the repeats of the ratio of two subjects that were measured in turn. */
export function ratio(of: Row | undefined, to: Row | undefined): number | undefined {
  if (of === undefined || to === undefined) return undefined;
  const ratios = of.all.flatMap((value, at) => {
    const other = to.all[at];
    return other === undefined ? [] : [value / other];
  });
  return median(ratios);
}

/** The rows with median and extremes, rounded. */
export function table(rows: readonly Row[]): string {
  const width = Math.max(...rows.map((row) => row.name.length), 4);
  const number = (value: number): string => Math.round(value).toLocaleString("en").padStart(10);
  const head = `${"per second".padEnd(width)}  ${"median".padStart(10)}  ${"least".padStart(10)}  ${"most".padStart(10)}\n`;
  const line = (row: Row): string =>
    `${row.name.padEnd(width)}  ${number(row.median)}  ${number(row.min)}  ${number(row.max)}\n`;
  return head + rows.map(line).join("");
}
