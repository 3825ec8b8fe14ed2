/** Messages on their way out of a stream: pushed from anywhere, pulled by the stream's one reader. */
export interface SendQueue<T> extends AsyncIterable<T> {
  /** False once the queue has ended: the message was not taken. */
  push(item: T): boolean;
  /** Ends the stream after what is queued; with an error, at once. */
  end(error?: unknown): void;
}

/** A queue that ends when `signal` aborts. It holds what its own flow produces, which is bounded by its node's work. */
export function createSendQueue<T>(signal: AbortSignal): SendQueue<T> {
  const items: T[] = [];
  let ended = false;
  let failure: { error: unknown } | undefined;
  let wake: (() => void) | undefined;
  const end = (error?: unknown): void => {
    ended = true;
    if (error !== undefined) failure ??= { error };
    wake?.();
  };
  signal.addEventListener("abort", () => end(), { once: true });
  return {
    push(item) {
      if (ended) return false;
      items.push(item);
      wake?.();
      return true;
    },
    end,
    async *[Symbol.asyncIterator]() {
      for (;;) {
        if (failure !== undefined) throw failure.error;
        const item = items.shift();
        if (item !== undefined) {
          yield item;
          continue;
        }
        if (ended) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      }
    },
  };
}
