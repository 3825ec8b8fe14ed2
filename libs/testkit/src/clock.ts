import type { Clock } from "@fastgpu/domain/clock";

/** A clock that moves only when told to. */
export interface ManualClock extends Clock {
  /** Moves it forward. */
  advance(ms: number): void;
  set(ms: number): void;
}

/** A clock at a fixed, readable time: 2026-01-01T00:00:00Z unless told otherwise. */
export function manualClock(startMs: number = Date.UTC(2026, 0, 1)): ManualClock {
  let now = startMs;
  return {
    nowMs: () => now,
    advance(ms) {
      now += ms;
    },
    set(ms) {
      now = ms;
    },
  };
}
