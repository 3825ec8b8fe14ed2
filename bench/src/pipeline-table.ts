/** Median and spread of repeats, and the table that people read. */
export interface Row {
  readonly name: string;
  /** Operations per second. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly all: readonly number[];
}

/** A value of sorted numbers by rank, 0 … 1; 0 where there are none. */
export function quantile(sorted: readonly number[], rank: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(rank * sorted.length))] ?? 0;
}

/** The median of an odd number, the upper one of an even number; with the extremes. */
export function summarise(name: string, all: readonly number[]): Row {
  const sorted = all.toSorted((a, b) => a - b);
  return {
    name,
    median: quantile(sorted, 0.5),
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
    all,
  };
}

/** The median over the repeats of the ratio of two subjects that were measured in turn. */
export function ratio(of: Row | undefined, to: Row | undefined): number | undefined {
  if (of === undefined || to === undefined) return undefined;
  const ratios = of.all.flatMap((value, at) => {
    const other = to.all[at];
    return other === undefined ? [] : [value / other];
  });
  return summarise("", ratios).median;
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
