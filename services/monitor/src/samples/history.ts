import { figureNames } from "./sample.ts";
import type { FigureName, Figures } from "./sample.ts";

/** Figures at a time, in milliseconds since the epoch. */
export interface Moment {
  readonly timeMs: number;
  readonly figures: Figures;
}

/** Numbers of one entry: the time and the figures. */
const WIDTH = 1 + figureNames.length;

/** The short history of one GPU. */
export interface History {
  /** Adds a moment; one that is not newer than the last is dropped. One too soon after it takes its place. */
  add(moment: Moment): boolean;
  newest(): Moment | undefined;
  /** Moments at or after a time, oldest first. */
  since(fromMs: number): Moment[];
}

/** Bounds of a {@link History}. */
export interface HistoryBounds {
  /** How long moments are kept, in milliseconds. */
  readonly keepMs: number;
  /** Least distance of two moments kept, in milliseconds: keepMs / stepMs bounds the size. */
  readonly stepMs: number;
}

/**
 * A ring of plain numbers that starts small and doubles up to its bound: 80 bytes a moment, where objects would take
 * five times as much.
 */
export function createHistory(bounds: HistoryBounds): History {
  const most = Math.ceil(bounds.keepMs / bounds.stepMs) + 1;
  let ring = new Float64Array(Math.min(16, most) * WIDTH);
  let start = 0;
  let count = 0;
  /** Time of the last moment that began a step; moments within the step replace each other. */
  let stepStartMs = Number.NEGATIVE_INFINITY;

  const capacity = (): number => ring.length / WIDTH;
  const at = (i: number): number => ((start + i) % capacity()) * WIDTH;
  const timeAt = (i: number): number => ring[at(i)] ?? Number.NaN;
  const write = (i: number, moment: Moment): void => {
    const offset = at(i);
    ring[offset] = moment.timeMs;
    figureNames.forEach((name, column) => (ring[offset + 1 + column] = moment.figures[name]));
  };
  const read = (i: number): Moment => {
    const offset = at(i);
    const figures = {} as Record<FigureName, number>;
    figureNames.forEach(
      (name, column) => (figures[name] = ring[offset + 1 + column] ?? Number.NaN),
    );
    return { timeMs: timeAt(i), figures };
  };
  const grow = (): void => {
    const larger = new Float64Array(Math.min(capacity() * 2, most) * WIDTH);
    for (let i = 0; i < count; i += 1) {
      larger.set(ring.subarray(at(i), at(i) + WIDTH), i * WIDTH);
    }
    ring = larger;
    start = 0;
  };
  const dropOldest = (): void => {
    start = (start + 1) % capacity();
    count -= 1;
  };
  return {
    add(moment) {
      if (count > 0 && moment.timeMs <= timeAt(count - 1)) return false;
      if (count > 0 && moment.timeMs - stepStartMs < bounds.stepMs) {
        write(count - 1, moment);
        return true;
      }
      while (count > 0 && timeAt(0) < moment.timeMs - bounds.keepMs) dropOldest();
      if (count === capacity() && count < most) grow();
      if (count === capacity()) dropOldest();
      write(count, moment);
      count += 1;
      stepStartMs = moment.timeMs;
      return true;
    },
    newest: () => (count === 0 ? undefined : read(count - 1)),
    since(fromMs) {
      const moments: Moment[] = [];
      for (let i = 0; i < count; i += 1) if (timeAt(i) >= fromMs) moments.push(read(i));
      return moments;
    },
  };
}
