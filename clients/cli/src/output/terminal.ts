import type { Writable } from "node:stream";

/** Where a command writes. Results go to `out`; progress, hints and errors to `err`, never mixed. */
export interface Terminal {
  out(text: string | Uint8Array): void;
  err(text: string | Uint8Array): void;
  /** Whether a person looks at standard output. */
  readonly outIsTty: boolean;
  /** Columns of the terminal that standard output is; undefined where it is none, or does not say. */
  readonly columns: number | undefined;
  /** Whether a person looks at standard error: spinners and hints go only there. */
  readonly errIsTty: boolean;
  readonly paint: Paint;
  /** Colours for standard error. */
  readonly paintErr: Paint;
}

/** Colours, or nothing where colour is not wanted. */
export type Paint = Record<
  "red" | "green" | "yellow" | "blue" | "dim" | "bold",
  (text: string) => string
>;

const CODES = { red: 31, green: 32, yellow: 33, blue: 34, dim: 2, bold: 1 } as const;

/** A stream as a terminal needs it; process.stdout is one. */
export type TerminalStream = Writable & { isTTY?: boolean; columns?: number };

/** The terminal over two streams, by the conventions of NO_COLOR, FORCE_COLOR and TERM=dumb. */
export function createTerminal(
  streams: { stdout: TerminalStream; stderr: TerminalStream },
  env: Readonly<Record<string, string | undefined>>,
): Terminal {
  const outIsTty = streams.stdout.isTTY === true;
  const errIsTty = streams.stderr.isTTY === true;
  return {
    out: (text) => void streams.stdout.write(text),
    err: (text) => void streams.stderr.write(text),
    outIsTty,
    columns: outIsTty && streams.stdout.columns ? streams.stdout.columns : undefined,
    errIsTty,
    paint: paintWhen(wantsColour(outIsTty, env)),
    paintErr: paintWhen(wantsColour(errIsTty, env)),
  };
}

function wantsColour(isTty: boolean, env: Readonly<Record<string, string | undefined>>): boolean {
  if (env["NO_COLOR"]) return false;
  if (env["FORCE_COLOR"] && env["FORCE_COLOR"] !== "0") return true;
  return isTty && env["TERM"] !== "dumb";
}

function paintWhen(wanted: boolean): Paint {
  const colour =
    (code: number) =>
    (text: string): string =>
      wanted ? `\u001b[${code}m${text}\u001b[0m` : text;
  return {
    red: colour(CODES.red),
    green: colour(CODES.green),
    yellow: colour(CODES.yellow),
    blue: colour(CODES.blue),
    dim: colour(CODES.dim),
    bold: colour(CODES.bold),
  };
}
