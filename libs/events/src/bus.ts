import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { EventRun } from "@fastgpu/postgres/outbox";
import type { Signal } from "./topics.ts";

/** Who wants whose events. */
export interface SubscribeOptions {
  readonly producer: string;
  /** The consuming service: its replicas share the deliveries. */
  readonly consumer: string;
  /**
   * Takes one delivery; they may come late, doubled and with gaps. A rejection brings it again
   * later. Usually `inbox.receive`.
   */
  readonly receive: (run: EventRun) => Promise<void>;
  /** Called when deliveries may have been missed: after each set-up. Usually `inbox.refresh`. */
  readonly onGap?: () => void;
}

/**
 * The fast path between services. It may lose everything at any time: producers keep their log
 * and consumers fill gaps from it, so no answer of a bus is ever a fence or a proof.
 */
export interface Bus extends AsyncDisposable {
  /** Resolves when the bus has the events. Rejects while it is away. */
  publish(producer: string, run: EventRun): Promise<void>;
  /** Delivers from now on, across lost connections and lost stores, until disposed. */
  subscribe(options: SubscribeOptions): AsyncDisposable;
  /** Sends to whoever listens now; lost otherwise, and while the bus is away. */
  send<S extends DescMessage>(signal: Signal<S>, key: string, message: MessageInitShape<S>): void;
  /** Hears a signal with this key, or with any (`*`). */
  listen<S extends DescMessage>(
    signal: Signal<S>,
    key: string,
    hear: (message: MessageShape<S>, key: string) => void,
  ): AsyncDisposable;
  /** Resolves once the bus can be used; for tests and for start-up. */
  connected(): Promise<void>;
}

/** A key is one word of a subject: letters, digits, `-` and `_`. */
export function checkKey(key: string): string {
  if (!/^[A-Za-z0-9_-]{1,128}$/.test(key)) throw new RangeError(`not a key of a signal: ${key}`);
  return key;
}
