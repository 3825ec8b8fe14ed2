import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { startLoop } from "@fastgpu/lifecycle/loop";
import { aborted } from "@fastgpu/lifecycle/signals";
import type { Logger } from "@fastgpu/telemetry/log";
import {
  AckPolicy,
  DeliverPolicy,
  DiscardPolicy,
  jetstream,
  jetstreamManager,
} from "@nats-io/jetstream";
import type {
  ConsumerMessages,
  JetStreamClient,
  JetStreamManager,
  JsMsg,
} from "@nats-io/jetstream";
import { connect, nanos } from "@nats-io/transport-node";
import type { NatsConnection } from "@nats-io/transport-node";
import { compareVersions, NATS_FLOOR } from "./binary.ts";
import type { Bus, SubscribeOptions } from "./bus.ts";
import { checkKey } from "./bus.ts";
import { decodeRun, encodeRun, messageId } from "./envelope.ts";

/** Options of {@link openNatsBus}. */
export interface NatsBusOptions {
  /** `nats://USER:PASSWORD@HOST:PORT`, several with commas between. */
  readonly url: string;
  /** Shown in the server's connection list. */
  readonly name: string;
  readonly log: Logger;
  /** First word of all subjects and of the stream's name; tests use one each. */
  readonly prefix?: string;
  /** Most bytes of events that the server keeps; 1 GiB. The server reserves them at once. */
  readonly streamBytes?: number;
  /** Work with a server older than the floor. */
  readonly allowOldServer?: boolean;
}

/** How long the stream keeps messages: longer absences are filled from the producers' logs. */
const STREAM_AGE_MS = 24 * 3_600_000;
const STREAM_BYTES = 1024 ** 3;
const ACK_WAIT_MS = 30_000;
/** First and longest pause before a refused delivery comes again; four times as long after each refusal. */
const REDELIVER_MS = { first: 500, max: 30_000 };
/** Deliveries that a consumer holds at once. */
const IN_FLIGHT = 200;

interface Link {
  readonly connection: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  /** Makes the stream if it is missing; looks only once until `doubtStream`. */
  ensureStream(): Promise<void>;
  /** The stream may be gone: look again before the next use. */
  doubtStream(): void;
}

/**
 * A bus over NATS: JetStream for events, core NATS for signals. Opening never waits and never
 * fails: while the server is away `publish` rejects and subscriptions wait for it. A server older
 * than the floor is refused, since it would ignore settings silently.
 */
export function openNatsBus(options: NatsBusOptions): Bus {
  const prefix = options.prefix ?? "fastgpu";
  const closing = new AbortController();
  const stop = closing.signal;
  let link: Link | undefined;
  let present = Promise.withResolvers<Link>();

  const linkLoop = startLoop({
    name: `${options.name} bus`,
    stop,
    log: options.log,
    idleMs: 100,
    backoffMs: { first: 100, max: 2_000 },
    step: async () => {
      const opened = await openLink(options, prefix);
      link = opened;
      present.resolve(opened);
      const closed = opened.connection.closed();
      await Promise.race([closed, aborted(stop)]);
      link = undefined;
      present = Promise.withResolvers<Link>();
      await opened.connection.close();
      return "again";
    },
  });
  const withLink = async (use: (link: Link) => Promise<void>): Promise<void> => {
    const now = await Promise.race([present.promise, aborted(stop)]);
    if (now !== undefined) await use(now);
  };
  return {
    connected: () => withLink(() => Promise.resolve()),
    async publish(producer, run) {
      if (link === undefined)
        throw new Fault("UNAVAILABLE", "the event bus is away", { retryAfterMs: 500 });
      const used = link;
      const subject = `${prefix}.events.${checkKey(producer)}`;
      const bytes = encodeRun(producer, run);
      try {
        await used.ensureStream();
        await used.js.publish(subject, bytes, { msgID: messageId(producer, run), timeout: 5_000 });
      } catch (error) {
        used.doubtStream();
        throw error;
      }
    },
    subscribe: (subscription) =>
      superviseConsumer({ ...options, prefix, stop, subscription, withLink }),
    send(signal, key, message) {
      const bytes = toBinary(signal.schema, create(signal.schema, message));
      link?.connection.publish(`${prefix}.${signal.name}.${checkKey(key)}`, bytes);
    },
    listen(signal, key, hear) {
      const subject = `${prefix}.${signal.name}.${key === "*" ? key : checkKey(key)}`;
      return superviseListener({ ...options, subject, stop, withLink }, (bytes, from) =>
        hear(fromBinary(signal.schema, bytes), from),
      );
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await linkLoop.done;
    },
  };
}

async function openLink(options: NatsBusOptions, prefix: string): Promise<Link> {
  const urls = options.url.split(",").map((text) => new URL(text));
  const connection = await connect({
    servers: urls.map((url) => url.host),
    user: decodeURIComponent(urls[0]?.username ?? ""),
    pass: decodeURIComponent(urls[0]?.password ?? ""),
    name: options.name,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 100,
    reconnectJitter: 200,
    timeout: 5_000,
    noAsyncTraces: true,
  });
  try {
    const version = connection.info?.version ?? "0";
    if (options.allowOldServer !== true && compareVersions(version, NATS_FLOOR) < 0) {
      throw new Fault("UNAVAILABLE", `nats-server ${version} is older than ${NATS_FLOOR}`, {
        hint: "use a newer nats-server, or allow old ones in the configuration",
      });
    }
    const js = jetstream(connection);
    const jsm = await jetstreamManager(connection, { checkAPI: false });
    let ready: Promise<void> | undefined;
    const ensureStream = async (): Promise<void> => {
      ready ??= makeStream(jsm, prefix, options.streamBytes ?? STREAM_BYTES);
      await ready.catch((error: unknown) => {
        ready = undefined;
        throw error;
      });
    };
    const doubtStream = (): void => {
      ready = undefined;
    };
    void watchReconnects(connection, doubtStream);
    return { connection, js, jsm, ensureStream, doubtStream };
  } catch (error) {
    await connection.close();
    throw error;
  }
}

/** After a reconnect the server may have lost its store. */
async function watchReconnects(connection: NatsConnection, doubtStream: () => void): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type === "reconnect") doubtStream();
  }
}

function streamName(prefix: string): string {
  return `${prefix}_events`;
}

async function makeStream(jsm: JetStreamManager, prefix: string, bytes: number): Promise<void> {
  const name = streamName(prefix);
  const subjects = [`${prefix}.events.*`];
  const found = await jsm.streams.info(name).catch(() => undefined);
  if (found !== undefined) return;
  await jsm.streams.add({
    name,
    subjects,
    max_age: nanos(STREAM_AGE_MS),
    max_bytes: bytes,
    discard: DiscardPolicy.Old,
    duplicate_window: nanos(120_000),
  });
}

interface Supervised extends NatsBusOptions {
  readonly prefix: string;
  readonly stop: AbortSignal;
  readonly subscription: SubscribeOptions;
  withLink(use: (link: Link) => Promise<void>): Promise<void>;
}

/** Consumes until disposed; whatever ends the consumption, it is set up again. */
function superviseConsumer(options: Supervised): AsyncDisposable {
  const { producer, consumer } = options.subscription;
  return startLoop({
    name: `${consumer} from ${producer}`,
    stop: options.stop,
    log: options.log,
    idleMs: 100,
    backoffMs: { first: 100, max: 2_000 },
    step: async (stop) => {
      await Promise.race([
        aborted(stop),
        options.withLink((link) => consumeOnce(options, link, stop)),
      ]);
      return "idle";
    },
  });
}

async function consumeOnce(options: Supervised, link: Link, stop: AbortSignal): Promise<void> {
  const { producer, consumer } = options.subscription;
  const name = `${checkKey(consumer)}_from_${checkKey(producer)}`;
  await link.ensureStream();
  await link.jsm.consumers.add(streamName(options.prefix), {
    durable_name: name,
    filter_subject: `${options.prefix}.events.${producer}`,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(ACK_WAIT_MS),
    // What was before us comes from the producer's log, which the inbox reads at its start.
    deliver_policy: DeliverPolicy.New,
    max_ack_pending: IN_FLIGHT,
    inactive_threshold: nanos(STREAM_AGE_MS),
  });
  const handle = await link.js.consumers.get(streamName(options.prefix), name);
  const messages = await handle.consume({
    max_messages: IN_FLIGHT,
    expires: 10_000,
    idle_heartbeat: 2_000,
    abort_on_missing_resource: true,
  });
  // Whatever was published before this consumption stood may have passed it by.
  options.subscription.onGap?.();
  const end = (): void => void messages.close();
  stop.addEventListener("abort", end, { once: true });
  const watching = watchConsumption(messages, options.log, name);
  try {
    for await (const message of messages) void deliver(message, options);
  } finally {
    stop.removeEventListener("abort", end);
    link.doubtStream();
    await messages.close().catch(() => undefined);
    await watching;
  }
}

/** Some endings show only as a notification: end the iteration, and the supervisor starts anew. */
async function watchConsumption(
  messages: ConsumerMessages,
  log: Logger,
  name: string,
): Promise<void> {
  for await (const status of messages.status()) {
    const lost =
      status.type === "consumer_deleted" ||
      status.type === "consumer_not_found" ||
      status.type === "stream_not_found" ||
      (status.type === "heartbeats_missed" && status.count >= 2);
    if (!lost) continue;
    log.info({ consumer: name, status: status.type }, "consumption ended; setting it up again");
    void messages.close();
    return;
  }
}

async function deliver(message: JsMsg, options: Supervised): Promise<void> {
  let run;
  try {
    run = decodeRun(message.data);
  } catch (error) {
    options.log.error(
      { err: error, subject: message.subject },
      "a message that is no batch of events",
    );
    message.term("not a batch of events");
    return;
  }
  try {
    await options.subscription.receive(run);
    message.ack();
  } catch (error) {
    options.log.debug({ err: error, subject: message.subject }, "delivery refused");
    // A consumer that lags refuses much and catches up from the producer's log: to come again soon, and be decoded
    // again, would only keep it from that.
    const refusals = Math.min(message.info.deliveryCount, 10);
    message.nak(Math.min(REDELIVER_MS.max, REDELIVER_MS.first * 4 ** (refusals - 1)));
  }
}

interface Listening extends NatsBusOptions {
  readonly subject: string;
  readonly stop: AbortSignal;
  withLink(use: (link: Link) => Promise<void>): Promise<void>;
}

function superviseListener(
  options: Listening,
  hear: (bytes: Uint8Array, key: string) => void,
): AsyncDisposable {
  return startLoop({
    name: `listener ${options.subject}`,
    stop: options.stop,
    log: options.log,
    idleMs: 100,
    step: async (stop) => {
      const listen = options.withLink(async (link) => {
        const subscription = link.connection.subscribe(options.subject);
        const end = (): void => subscription.unsubscribe();
        stop.addEventListener("abort", end, { once: true });
        for await (const message of subscription) {
          try {
            hear(message.data, message.subject.split(".").at(-1) ?? "");
          } catch (error) {
            options.log.warn(
              { err: error, subject: message.subject },
              "a signal could not be read",
            );
          }
        }
        stop.removeEventListener("abort", end);
      });
      await Promise.race([aborted(stop), listen]);
      return "idle";
    },
  });
}
