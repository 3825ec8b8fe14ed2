/** Why something was asked to stop: at shutdown, by its caller, or because its time was up. */
export type StopReason = "shutdown" | "caller" | "deadline";

/** The reason of an aborted signal. Aborting with it keeps the cause typed for whoever looks. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  readonly reason: StopReason;

  constructor(reason: StopReason, message: string = `stopped: ${reason}`) {
    super(message);
    this.reason = reason;
  }
}

/** Tells why a signal was aborted; `undefined` while it is not. */
export function stopReason(signal: AbortSignal): StopReason | undefined {
  if (!signal.aborted) return undefined;
  const cause: unknown = signal.reason;
  if (cause instanceof Stopped) return cause.reason;
  if (cause instanceof DOMException && cause.name === "TimeoutError") return "deadline";
  return "caller";
}

/** Resolves once the signal is aborted (at once if it already is). */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/**
 * Waits for `ms` milliseconds or until the signal is aborted, whichever is first.
 * Never rejects: look at `signal.aborted` afterwards.
 */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish, { once: true });
  });
}

/** The part of `process` that `stopOnProcessSignals` needs. */
export interface SignalSource {
  on(event: "SIGINT" | "SIGTERM", listener: () => void): unknown;
  off(event: "SIGINT" | "SIGTERM", listener: () => void): unknown;
}

/** Options of {@link stopOnProcessSignals}. */
export interface ProcessSignalOptions {
  readonly source: SignalSource;
  /** Called on the second signal: the person is out of patience. */
  readonly onSecond: () => void;
}

/**
 * Turns SIGINT and SIGTERM into one AbortSignal. Only the composition root calls it:
 * services see nothing but their `stop`.
 */
export function stopOnProcessSignals(
  options: ProcessSignalOptions,
): { readonly stop: AbortSignal } & Disposable {
  const controller = new AbortController();
  const listener = (): void => {
    if (controller.signal.aborted) options.onSecond();
    else controller.abort(new Stopped("shutdown"));
  };
  options.source.on("SIGINT", listener);
  options.source.on("SIGTERM", listener);
  return {
    stop: controller.signal,
    [Symbol.dispose]() {
      options.source.off("SIGINT", listener);
      options.source.off("SIGTERM", listener);
    },
  };
}
