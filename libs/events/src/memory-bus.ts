import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage } from "@bufbuild/protobuf";
import type { Bus, SubscribeOptions } from "./bus.ts";
import { checkKey } from "./bus.ts";
import { decodeRun, encodeRun } from "./envelope.ts";

interface Group {
  readonly producer: string;
  readonly members: SubscribeOptions[];
  next: number;
}

interface Listener {
  readonly name: string;
  readonly key: string;
  hear(bytes: Uint8Array, key: string): void;
}

/**
 * A bus inside one process, for tests and simulations of services. Messages pass through their
 * wire form, so that nobody ever shares an object with another service.
 */
export function createMemoryBus(options: { readonly retryMs?: number } = {}): Bus {
  const retryMs = options.retryMs ?? 100;
  const groups = new Map<string, Group>();
  const listeners = new Set<Listener>();
  const retries = new Set<NodeJS.Timeout>();
  let closed = false;

  const deliver = (group: Group, bytes: Uint8Array): void => {
    const member = group.members[group.next % Math.max(1, group.members.length)];
    group.next += 1;
    if (member === undefined || closed) return;
    member.receive(decodeRun(bytes)).catch(() => {
      const timer = setTimeout(() => {
        retries.delete(timer);
        deliver(group, bytes);
      }, retryMs);
      retries.add(timer);
    });
  };
  return {
    connected: () => Promise.resolve(),
    publish(producer, run) {
      if (closed) return Promise.reject(new Error("the bus is closed"));
      const bytes = encodeRun(producer, run);
      queueMicrotask(() => {
        for (const group of groups.values()) if (group.producer === producer) deliver(group, bytes);
      });
      return Promise.resolve();
    },
    subscribe(subscription) {
      const name = `${subscription.consumer} from ${subscription.producer}`;
      const group = groups.get(name) ?? { producer: subscription.producer, members: [], next: 0 };
      groups.set(name, group);
      group.members.push(subscription);
      subscription.onGap?.();
      return disposable(() => void group.members.splice(group.members.indexOf(subscription), 1));
    },
    send(signal, key, message) {
      const bytes = toBinary<DescMessage>(signal.schema, create(signal.schema, message));
      checkKey(key);
      queueMicrotask(() => {
        for (const listener of listeners) {
          if (listener.name !== signal.name) continue;
          if (listener.key === "*" || listener.key === key) listener.hear(bytes, key);
        }
      });
    },
    listen(signal, key, hear) {
      const listener: Listener = {
        name: signal.name,
        key: key === "*" ? key : checkKey(key),
        hear: (bytes, from) => hear(fromBinary(signal.schema, bytes), from),
      };
      listeners.add(listener);
      return disposable(() => void listeners.delete(listener));
    },
    [Symbol.asyncDispose]() {
      closed = true;
      for (const timer of retries) clearTimeout(timer);
      return Promise.resolve();
    },
  };
}

function disposable(dispose: () => void): AsyncDisposable {
  return {
    [Symbol.asyncDispose]() {
      dispose();
      return Promise.resolve();
    },
  };
}
