import { pino } from "pino";
import type { Logger } from "pino";

export type { Logger } from "pino";

/** A JSON logger on standard error for one service. */
export function createLogger(options: { service: string; level: string }): Logger {
  return pino({ base: { service: options.service }, level: options.level }, pino.destination(2));
}
