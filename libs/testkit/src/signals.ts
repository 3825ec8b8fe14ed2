/** Points in time with names, instead of sleeps: one side fires, the other waits. */
export interface NamedSignals {
  /** Fires a name once more; waiters for that many firings go on. */
  fire(name: string): void;
  /** Resolves when the name has fired `times` times since the start (1 unless told otherwise). */
  fired(name: string, times?: number): Promise<void>;
  count(name: string): number;
}

/** Makes a set of named signals. A wait that nobody ends fails after `timeoutMs`, naming what it waited for. */
export function namedSignals(timeoutMs = 30_000): NamedSignals {
  const counts = new Map<string, number>();
  const waiters = new Set<{ name: string; times: number; resolve: () => void }>();
  const count = (name: string): number => counts.get(name) ?? 0;
  return {
    count,
    fire(name) {
      counts.set(name, count(name) + 1);
      for (const waiter of waiters) {
        if (waiter.name === name && waiter.times <= count(name)) waiter.resolve();
      }
    },
    fired(name, times = 1) {
      if (count(name) >= times) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const seen = (): string => [...counts].map(([key, n]) => `${key}×${n}`).join(", ");
        const timer = setTimeout(() => {
          waiters.delete(waiter);
          reject(new Error(`waited for ${name}×${times}; fired so far: ${seen() || "nothing"}`));
        }, timeoutMs);
        const waiter = {
          name,
          times,
          resolve: () => {
            clearTimeout(timer);
            waiters.delete(waiter);
            resolve();
          },
        };
        waiters.add(waiter);
      });
    },
  };
}

/**
 * Asks `probe` until it answers something other than undefined or false, then returns that.
 * For states of other processes that no signal reports; fails after `timeoutMs`, saying `what`.
 */
export async function eventually<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
