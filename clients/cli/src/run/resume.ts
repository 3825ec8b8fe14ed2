import { setTimeout as delay } from "node:timers/promises";
import { Fault } from "@fastgpu/domain/fault";

/** How a broken stream is taken up again. */
export interface ResumeOptions<T> {
  /** Opens the stream after what was seen so far; called again after each break. */
  open(): AsyncIterable<T>;
  /** Takes one message, remembers the position, and says whether it was the last that is wanted. */
  take(message: T): boolean | void;
  /** Whether a stream that ended by itself is complete; if not, it is opened again. */
  complete(): Promise<boolean> | boolean;
  /** Told once for each break, before the pause. */
  onBreak(fault: Fault, pauseMs: number): void;
  /** Told when messages come again after a break. */
  onResume(): void;
  /** Forgets the position, where the server no longer knows it; without this such a fault is thrown. */
  restart?(): void;
  signal: AbortSignal;
}

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Reads a stream to its end over any number of lost connections. Only a lost connection, a server
 * that drains, or a busy one is a reason to come again; every other fault is thrown. Returns early
 * where the signal aborts.
 */
export async function readResuming<T>(options: ResumeOptions<T>): Promise<void> {
  const { signal } = options;
  let pauseMs = FIRST_PAUSE_MS;
  let broken = false;
  while (!signal.aborted) {
    try {
      for await (const message of options.open()) {
        if (broken) options.onResume();
        broken = false;
        pauseMs = FIRST_PAUSE_MS;
        if (options.take(message) === true) return;
      }
      if (await options.complete()) return;
      await pause(pauseMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      const fault = Fault.from(error);
      if (fault.reason === "REVISION_TOO_OLD" && options.restart) options.restart();
      else if (!isTransient(fault)) throw error;
      const wait = fault.retryAfterMs ?? pauseMs;
      if (!broken) options.onBreak(fault, wait);
      broken = true;
      await pause(wait, signal);
    }
    pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
  }
}

function isTransient(fault: Fault): boolean {
  return (
    fault.code === "UNAVAILABLE" ||
    fault.reason === "RATE_LIMITED" ||
    fault.reason === "TOKEN_EXPIRED"
  );
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => undefined);
}
