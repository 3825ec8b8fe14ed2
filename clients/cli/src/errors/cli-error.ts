import { type ExitCode, exitCodes } from "./exit-codes.ts";

/** What a CliError is made of beside its message. */
export interface CliErrorDetails {
  /** Why it is so, one sentence. */
  why?: string;
  /** A command or a change that helps, without the word "try". */
  hint?: string;
  /** Default: wrong usage. */
  exitCode?: ExitCode;
  cause?: unknown;
}

/** A failure on this side of the wire, worded for people. What a server refuses arrives as a Fault. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly why: string | undefined;
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(message: string, details: CliErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.why = details.why;
    this.hint = details.hint;
    this.exitCode = details.exitCode ?? exitCodes.usage;
  }
}
