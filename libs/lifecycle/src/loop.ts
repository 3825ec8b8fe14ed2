import { setImmediate as nextTurn } from "node:timers/promises";
import { Fault } from "@fastgpu/domain/fault";
import type { Logger } from "@fastgpu/telemetry/log";

/** What a step of a loop answers: `again` = there is more to do now; `idle` = wait for a wake. */
export type LoopNext = "again" | "idle";

/** Options of {@link startLoop}. Durations in milliseconds. */
export interface LoopOptions {
  readonly name: string;
  readonly stop: AbortSignal;
  readonly log: Logger;
  /** One bounded piece of work. An error is logged and retried after a backoff. */
  step(stop: AbortSignal): Promise<LoopNext>;
  /** The longest sleep without a wake: the poll that covers a lost wake. */
  readonly idleMs: number;
  /** First and last backoff after an error; doubled between, each with full jitter. */
  readonly backoffMs?: { readonly first: number; readonly max: number };
  /** Uniform in [0, 1); tests pass a seeded one. */
  readonly random?: () => number;
}

/** A running loop. */
export interface Loop extends AsyncDisposable {
  /** Asks for a step soon; wakes that come during a step lead to exactly one more. */
  wake(): void;
  /** Resolves when the loop has ended; never rejects. */
  readonly done: Promise<void>;
}

/**
 * Runs `step` over and over until `stop` is aborted or the loop is disposed.
 * It survives every error, never runs two steps at once and never spins:
 * an idle loop waits for `wake()` or `idleMs`, a failing one for its backoff.
 */
export function startLoop(options: LoopOptions): Loop {
  const own = new AbortController();
  const stop = AbortSignal.any([options.stop, own.signal]);
  const waker = createWaker(stop);
  const done = runLoop(options, stop, waker);
  return {
    wake: () => waker.wake(),
    done,
    async [Symbol.asyncDispose]() {
      own.abort();
      await done;
    },
  };
}

async function runLoop(options: LoopOptions, stop: AbortSignal, waker: Waker): Promise<void> {
  const backoff = options.backoffMs ?? { first: 50, max: 5_000 };
  const random = options.random ?? Math.random;
  let failures = 0;
  while (!stop.aborted) {
    waker.clear();
    try {
      const next = await options.step(stop);
      failures = 0;
      // A turn of the event loop between steps: a busy loop must not starve everybody else.
      if (next === "again") await nextTurn();
      else await waker.wait(options.idleMs);
    } catch (error) {
      if (stop.aborted) return;
      const ceilingMs = Math.min(backoff.max, backoff.first * 2 ** Math.min(failures, 30));
      failures += 1;
      const delayMs = Math.ceil(ceilingMs * (0.5 + random() / 2));
      // An outage of hours must not fill the log: the 1st, 2nd, 4th, 8th … failure in a row is told.
      const level = Number.isInteger(Math.log2(failures)) ? "warn" : "debug";
      const told = { ...describe(error), loop: options.name, failures, delayMs };
      options.log[level](told, "loop step failed");
      waker.clear();
      await waker.pause(delayMs);
    }
  }
}

/** Something being away is told in a word; a stack is for what nobody expected. */
function describe(error: unknown): Readonly<Record<string, unknown>> {
  const away = error instanceof Fault && error.reason === "UNAVAILABLE";
  return away ? { reason: error.message } : { err: error };
}

interface Waker {
  wake(): void;
  clear(): void;
  /** Ends on a wake, on stop, or after the time. */
  wait(ms: number): Promise<void>;
  /** Ends on stop or after the time: a wake must not turn a backoff into a busy loop. */
  pause(ms: number): Promise<void>;
}

function createWaker(stop: AbortSignal): Waker {
  let woken = false;
  let release: (() => void) | undefined;
  const block = (ms: number, wakeable: boolean): Promise<void> => {
    if (stop.aborted || (wakeable && woken)) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        stop.removeEventListener("abort", finish);
        release = undefined;
        resolve();
      };
      const timer = setTimeout(finish, ms);
      stop.addEventListener("abort", finish, { once: true });
      if (wakeable) release = finish;
    });
  };
  return {
    wake() {
      woken = true;
      release?.();
    },
    clear() {
      woken = false;
    },
    wait: (ms) => block(ms, true),
    pause: (ms) => block(ms, false),
  };
}
