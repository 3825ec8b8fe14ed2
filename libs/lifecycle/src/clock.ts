import { uptime } from "node:os";
import type { Clock } from "@fastgpu/domain/clock";
import type { Logger } from "@fastgpu/telemetry/log";
import { startLoop } from "./loop.ts";

/** Above this a process must stop leasing (design page 3, "time"). */
export const MAX_UNCERTAINTY_MS = 250;

/** Quartz drifts by less than this between two synchronisations, in parts per million. */
const DRIFT_PPM = 200;

/** `os.uptime()` is read from a counter of hundredths of a second. */
const UPTIME_RESOLUTION_MS = 10;

/** A clock that never goes back and counts suspend, in milliseconds since an arbitrary start. */
export interface MonotonicClock {
  nowMs(): number;
}

/** The two counters of the machine that {@link createMonotonicClock} joins. */
export interface MachineCounters {
  /** Fine, monotonic, stops in suspend; milliseconds. */
  readonly runningMs: () => number;
  /** Coarse, counts suspend; milliseconds since boot. */
  readonly sinceBootMs: () => number;
}

const machineCounters: MachineCounters = {
  runningMs: () => performance.now(),
  sinceBootMs: () => uptime() * 1_000,
};

/**
 * The fine counter plus the time spent suspended, found as the growth of the distance between
 * both counters. Being preempted between the two reads can only hide suspend, never invent it.
 */
export function createMonotonicClock(counters: MachineCounters = machineCounters): MonotonicClock {
  const firstRunning = counters.runningMs();
  const baseline = counters.sinceBootMs() + UPTIME_RESOLUTION_MS - firstRunning;
  let suspendedMs = 0;
  let last = 0;
  return {
    nowMs() {
      const sinceBoot = counters.sinceBootMs();
      const running = counters.runningMs();
      suspendedMs = Math.max(suspendedMs, sinceBoot - running - baseline);
      last = Math.max(last, running + suspendedMs);
      return last;
    },
  };
}

/** A clock that follows the database's time, with a bound on how far off it may be. */
export interface SynchronisedClock extends Clock, AsyncDisposable {
  /** |true database time − nowMs()| is at most this; infinite before the first synchronisation. */
  uncertaintyMs(): number;
  /** Asks the database now. Rejects when it does not answer. */
  synchronise(): Promise<void>;
}

/** Options of {@link startDatabaseClock}. */
export interface DatabaseClockOptions {
  /** Reads the database's clock: milliseconds since the epoch, fractions welcome. */
  readonly readDatabaseMs: () => Promise<number>;
  readonly stop: AbortSignal;
  readonly log: Logger;
  readonly intervalMs?: number;
  readonly monotonic?: MonotonicClock;
}

/**
 * Starts a clock that asks the database every 10 s. Resolves after the first answer.
 * The estimate is the midpoint of request and answer (Cristian 1989); the bound is half the round
 * trip plus drift since. A slow round trip never replaces a better estimate that still holds.
 */
export async function startDatabaseClock(
  options: DatabaseClockOptions,
): Promise<SynchronisedClock> {
  const monotonic = options.monotonic ?? createMonotonicClock();
  let sample: { offsetMs: number; errorMs: number; atMs: number } | undefined;
  let last = 0;

  const errorAt = (mono: number): number =>
    sample === undefined
      ? Number.POSITIVE_INFINITY
      : sample.errorMs + ((mono - sample.atMs) * DRIFT_PPM) / 1e6;

  const synchronise = async (): Promise<void> => {
    const sent = monotonic.nowMs();
    const databaseMs = await options.readDatabaseMs();
    const received = monotonic.nowMs();
    const errorMs = (received - sent) / 2;
    const offsetMs = databaseMs - (sent + received) / 2;
    // Disagreement beyond both bounds means that the database's clock was set: believe it.
    const disagrees =
      sample !== undefined && Math.abs(offsetMs - sample.offsetMs) > errorMs + errorAt(received);
    if (disagrees || errorMs <= errorAt(received)) sample = { offsetMs, errorMs, atMs: received };
  };

  await synchronise();
  const loop = startLoop({
    name: "clock",
    stop: options.stop,
    log: options.log,
    idleMs: options.intervalMs ?? 10_000,
    step: async () => {
      // The loop runs its first step at once; a second sample right away tightens the bound.
      await synchronise();
      return "idle";
    },
  });
  return {
    nowMs() {
      last = Math.max(last, Math.floor(monotonic.nowMs() + (sample?.offsetMs ?? 0)));
      return last;
    },
    uncertaintyMs() {
      const mono = monotonic.nowMs();
      // A database clock set back leaves nowMs() waiting for it: the distance is error too.
      const ahead = Math.max(0, last - (mono + (sample?.offsetMs ?? 0)));
      return errorAt(mono) + ahead;
    },
    synchronise,
    [Symbol.asyncDispose]: () => loop[Symbol.asyncDispose](),
  };
}

/** The machine's own wall clock: for tools and for processes without a database (clients). */
export const wallClock: Clock = { nowMs: () => Date.now() };
