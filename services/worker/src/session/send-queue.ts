/** Messages on their way out, as the request stream of a call. */
export interface SendQueue<T> extends AsyncIterable<T> {
  push(message: T): void;
  /** The stream ends after what is queued. */
  end(): void;
}

/** An unbounded queue for one reader. Its writers are bounded by their own acknowledgements. */
export function createSendQueue<T>(): SendQueue<T> {
  const messages: T[] = [];
  let ended = false;
  let wake: (() => void) | undefined;
  const ring = (): void => {
    wake?.();
    wake = undefined;
  };
  return {
    push(message) {
      if (ended) return;
      messages.push(message);
      ring();
    },
    end() {
      ended = true;
      ring();
    },
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const next = messages.shift();
        if (next !== undefined) yield next;
        else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
