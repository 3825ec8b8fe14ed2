import { Fault } from "@fastgpu/domain/fault";
import { isDataError, isRetryable, toFault } from "./errors.ts";

/** Options of {@link createBatchWriter}. */
export interface BatchWriterOptions<Item, Outcome> {
  /** Writes all items in one statement and answers one outcome each, in order. */
  readonly write: (items: readonly Item[]) => Promise<readonly Outcome[]>;
  /** Most items of one statement; 500. */
  readonly maxItems?: number;
  /** How long a statement under way holds back the next one, in milliseconds; 2. */
  readonly maxDelayMs?: number;
  /** Most statements at the same time; 2. */
  readonly concurrency?: number;
  /** Most items waiting; beyond, submits fail with RATE_LIMITED. */
  readonly maxWaiting?: number;
}

/** Joins single commands into batches. */
export interface BatchWriter<Item, Outcome> extends AsyncDisposable {
  /** Resolves with the item's own outcome once its batch is committed. */
  submit(item: Item): Promise<Outcome>;
}

interface Waiting<Item, Outcome> {
  readonly item: Item;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

const RETRIES = 3;

/**
 * Group commit: an idle writer writes at the end of the current turn of the event loop, so a lone
 * command waits for nobody; while a statement is under way the next batch gathers, for at most 2 ms
 * or 500 items. A batch that a single bad item spoils is split until that item stands alone.
 */
export function createBatchWriter<Item, Outcome>(
  options: BatchWriterOptions<Item, Outcome>,
): BatchWriter<Item, Outcome> {
  const maxItems = options.maxItems ?? 500;
  const maxDelayMs = options.maxDelayMs ?? 2;
  const concurrency = options.concurrency ?? 2;
  const maxWaiting = options.maxWaiting ?? 20_000;
  let waiting: Waiting<Item, Outcome>[] = [];
  let running = 0;
  let scheduled = false;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let drained: (() => void) | undefined;

  const flush = (): void => {
    clearTimeout(timer);
    timer = undefined;
    while (waiting.length > 0 && running < concurrency) {
      const batch = waiting.slice(0, maxItems);
      waiting = waiting.slice(maxItems);
      running += 1;
      void writeBatch(options.write, batch).then(() => {
        running -= 1;
        schedule();
        if (running === 0 && waiting.length === 0) drained?.();
      });
    }
  };
  const schedule = (): void => {
    if (waiting.length === 0 || running >= concurrency) return;
    if (running === 0 || waiting.length >= maxItems) {
      if (scheduled) return;
      scheduled = true;
      setImmediate(() => {
        scheduled = false;
        flush();
      });
    } else {
      timer ??= setTimeout(flush, maxDelayMs);
    }
  };
  return {
    submit(item) {
      if (closed)
        return Promise.reject(
          new Fault("DRAINING", "the service is stopping", { retryAfterMs: 1_000 }),
        );
      if (waiting.length >= maxWaiting) {
        return Promise.reject(
          new Fault("RATE_LIMITED", "too many writes are waiting", { retryAfterMs: 200 }),
        );
      }
      return new Promise((resolve, reject) => {
        waiting.push({ item, resolve, reject });
        schedule();
      });
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      if (running === 0 && waiting.length === 0) return;
      await new Promise<void>((resolve) => {
        drained = resolve;
        schedule();
      });
    },
  };
}

/** Never rejects: every item gets its outcome or its error. */
async function writeBatch<Item, Outcome>(
  write: (items: readonly Item[]) => Promise<readonly Outcome[]>,
  batch: readonly Waiting<Item, Outcome>[],
): Promise<void> {
  const items = batch.map((waiting) => waiting.item);
  for (let attempt = 0; ; attempt += 1) {
    try {
      const outcomes = await write(items);
      if (outcomes.length !== batch.length)
        throw new Error("a batch must answer one outcome an item");
      batch.forEach((waiting, i) => waiting.resolve(outcomes[i] as Outcome));
      return;
    } catch (error) {
      if (isRetryable(error) && attempt < RETRIES) {
        await new Promise((resolve) => setTimeout(resolve, 5 * 2 ** attempt));
        continue;
      }
      if (isDataError(error) && batch.length > 1) {
        const half = Math.ceil(batch.length / 2);
        await writeBatch(write, batch.slice(0, half));
        await writeBatch(write, batch.slice(half));
        return;
      }
      for (const waiting of batch) waiting.reject(toFault(error));
      return;
    }
  }
}
