import type { Clock } from "@fastgpu/domain/clock";

/** Time that passes only when the simulation says so. */
export class VirtualClock implements Clock {
  private timeMs: number;

  constructor(startMs: number) {
    this.timeMs = startMs;
  }

  nowMs(): number {
    return this.timeMs;
  }

  /** Moves on to a time. Throws RangeError for one that has passed. */
  advanceTo(timeMs: number): void {
    if (!(timeMs >= this.timeMs)) {
      throw new RangeError(`time runs forward only: ${timeMs} after ${this.timeMs}`);
    }
    this.timeMs = timeMs;
  }
}
