/** A running task, as far as a reservation is concerned. */
export interface ExpectedEnd {
  /** When it is expected to end at the latest. */
  readonly endMs: number;
  readonly gpusMilli: number;
}

/** The reserved start of the task at the head, and what may run beside it. */
export interface StartReservation {
  /** When enough GPUs are free at the latest, if the expected ends hold; Infinity: never by ends alone. */
  readonly startMs: number;
  /** Whether a task may start now without delaying the reserved start. */
  may(endMs: number, gpusMilli: number): boolean;
  /** A task that {@link may} start has started. */
  took(endMs: number, gpusMilli: number): void;
}

/**
 * EASY backfill (Lifka, "The ANL/IBM SP scheduling system", JSSPP '95; Mu'alem and Feitelson, TPDS 2001): the head's
 * start is reserved for when enough running tasks have ended; a later task may start if it ends by then, or fits
 * beside the head. As long as no task outlives its expected end, the head starts no later than reserved.
 */
export function reserveStart(options: {
  readonly needMilli: number;
  readonly freeMilli: number;
  readonly running: Iterable<ExpectedEnd>;
}): StartReservation {
  let free = options.freeMilli;
  let startMs = Number.POSITIVE_INFINITY;
  let spare = 0;
  const byEnd = [...options.running].sort((a, b) => a.endMs - b.endMs);
  for (const [index, { endMs, gpusMilli }] of byEnd.entries()) {
    free += gpusMilli;
    // All that end at the same moment count, so that the spare part does not depend on their order.
    if (free < options.needMilli || byEnd[index + 1]?.endMs === endMs) continue;
    startMs = endMs;
    spare = free - options.needMilli;
    break;
  }
  return {
    startMs,
    may: (endMs, gpusMilli) => endMs <= startMs || gpusMilli <= spare,
    took(endMs, gpusMilli) {
      if (endMs > startMs) spare -= gpusMilli;
    },
  };
}
