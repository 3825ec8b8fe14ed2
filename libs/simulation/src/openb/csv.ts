/** A place in a CSV file that cannot be used, and why. */
export interface CsvProblem {
  readonly kind: "bad";
  readonly file: string;
  /** 1-based line in the file; 1 is the header. */
  readonly line: number;
  readonly column: string;
  readonly problem: string;
}

/** What a reader answers: rows, or the first problem found. */
export type CsvResult<Row> = { readonly kind: "ok"; readonly rows: readonly Row[] } | CsvProblem;

/** Renders a problem as `file:line: column "x": why`. */
export function describeProblem(problem: CsvProblem): string {
  return `${problem.file}:${problem.line}: column "${problem.column}": ${problem.problem}`;
}

/** One line of a table, read by column name; the first bad field is remembered. */
export interface Fields {
  text(column: string): string;
  /** A whole number in [min, max]. */
  integer(column: string, min: number, max: number): number;
  has(column: string): boolean;
  refuse(column: string, problem: string): void;
}

/** A decimal number, as tools write them (1000, 1000.0); NaN for all else. */
export function numberIn(cell: string): number {
  return /^[+-]?\d+(\.\d*)?$/.test(cell) ? Number(cell) : Number.NaN;
}

/** The fields of one line; a field may stand in double quotes, with its own ones doubled (RFC 4180). */
function cellsOf(line: string): string[] {
  if (!line.includes('"')) return line.split(",");
  const fields = `,${line}`.matchAll(/,(?:\s*"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))/g);
  return [...fields].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? "");
}

/** Reads a comma-separated table with a header, one row a line; `read` maps one line. */
export function readCsv<Row>(
  source: { readonly file: string; readonly text: string; readonly required: readonly string[] },
  read: (fields: Fields) => Row,
): CsvResult<Row> {
  const { file } = source;
  const lines = source.text.replace(/^\uFEFF/, "").split(/\r?\n/);
  const header = cellsOf(lines[0] ?? "").map((name) => name.trim());
  const at = new Map(header.map((name, index) => [name, index]));
  for (const column of source.required) {
    if (!at.has(column)) {
      const problem = `missing; the header is "${header.join(",")}"`;
      return { kind: "bad", file, line: 1, column, problem };
    }
  }
  const rows: Row[] = [];
  for (let index = 1; index < lines.length; index++) {
    const line = lines[index] ?? "";
    if (line.trim() === "") continue;
    const cells = cellsOf(line);
    let bad: CsvProblem | undefined;
    const refuse = (column: string, problem: string): void => {
      bad ??= { kind: "bad", file, line: index + 1, column, problem };
    };
    if (cells.length !== header.length) {
      refuse(header[cells.length] ?? "(none)", `${cells.length} fields, expected ${header.length}`);
    }
    const text = (column: string): string => (cells[at.get(column) ?? -1] ?? "").trim();
    const integer = (column: string, min: number, max: number): number => {
      const cell = text(column);
      const value = numberIn(cell);
      if (!Number.isInteger(value)) refuse(column, `"${cell}" is not a whole number`);
      else if (value < min || value > max) refuse(column, `${cell} is not in [${min}, ${max}]`);
      return value;
    };
    const row = read({ text, integer, has: (column) => at.has(column), refuse });
    if (bad !== undefined) return bad;
    rows.push(row);
  }
  if (rows.length === 0) {
    return { kind: "bad", file, line: 1, column: header[0] ?? "", problem: "the file has no rows" };
  }
  return { kind: "ok", rows };
}
