import type { Terminal } from "./output/terminal.ts";
import type { OutputFormat, PrintOptions } from "./output/print.ts";
import type { SettingsFlags } from "./config/settings.ts";

/** What a command gets from the process it runs in. */
export interface CliContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  /** What was typed after the program's name. */
  readonly args: readonly string[];
  /** Milliseconds since the Unix epoch, for ages. */
  nowMs(): number;
  /**
   * From this call on, Ctrl-C (or SIGTERM) aborts the signal in place of ending the process; a
   * second one ends it.
   */
  interruptible(): AbortSignal;
}

/** Options that every command which talks to a platform takes. */
export interface CommonOptions extends SettingsFlags {
  format?: OutputFormat;
  quiet?: boolean;
  /** Deadline of each call in milliseconds. */
  timeout?: number;
}

/**
 * A command's code, loaded when the command runs. The number is the exit code; nothing means 0.
 * Arguments are as commander hands them over: strings, or a list for a variadic one.
 */
export type Run = (context: CliContext, options: never, ...args: never[]) => Promise<number | void>;

/** What decides how this command's result is printed. */
export function printOptions(context: CliContext, options: CommonOptions): PrintOptions {
  return { terminal: context.terminal, format: options.format, quiet: options.quiet === true };
}
