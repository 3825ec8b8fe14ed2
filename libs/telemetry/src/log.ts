import { createRequire } from "node:module";
import { pino } from "pino";
import type { DestinationStream, Logger } from "pino";
import { scrub } from "./scrub.ts";

export type { Logger } from "pino";

/** Options of {@link createLogger}. */
export interface LoggerOptions {
  /** The service's name, in every line. */
  readonly service: string;
  /** trace, debug, info, warn, error, fatal or silent. */
  readonly level: string;
  /** Where lines go; standard error if missing. Tests pass a collector. */
  readonly destination?: DestinationStream;
  /** Lines for people instead of JSON. Default: where standard error is a terminal. */
  readonly pretty?: boolean;
}

/** Keys whose values never reach a log, at the top level or one level down. */
const secretKeys = [
  "authorization",
  "token",
  "accessToken",
  "apiKey",
  "secret",
  "password",
  "privateKeyPem",
  "env",
];

/**
 * A logger for one service: JSON lines `{time, level, service, msg, …}` on standard error, `time` in ISO 8601 and
 * `level` as a word. A spec's env, API keys and tokens are taken out, by key and by their shape.
 */
export function createLogger(options: LoggerOptions): Logger {
  const toTerminal = options.destination === undefined && process.stderr.isTTY;
  const destination = options.destination ?? pino.destination({ dest: 2, sync: true });
  const stream =
    (options.pretty ?? toTerminal) ? (prettyStream(destination) ?? destination) : destination;
  return pino(
    {
      base: { service: options.service },
      level: options.level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretKeys.flatMap((key) => [key, `*.${key}`, `*.*.${key}`]),
        censor: "[redacted]",
      },
      hooks: { streamWrite: scrub },
    },
    stream,
  );
}

/** Loaded only where somebody looks: the JSON form needs none of it. */
function prettyStream(destination: DestinationStream): DestinationStream | undefined {
  try {
    const pretty = createRequire(import.meta.url)("pino-pretty") as (options: {
      readonly destination: DestinationStream;
      readonly colorize: boolean;
      readonly ignore: string;
      readonly messageFormat: string;
      readonly translateTime: string;
    }) => DestinationStream;
    return pretty({
      destination,
      colorize: process.stderr.isTTY && process.env["NO_COLOR"] === undefined,
      ignore: "pid,hostname,service",
      messageFormat: "{service} {msg}",
      translateTime: "HH:MM:ss.l",
    });
  } catch {
    return undefined;
  }
}
