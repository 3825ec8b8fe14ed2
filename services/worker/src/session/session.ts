import { create } from "@bufbuild/protobuf";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type ConnectRequest,
  ConnectRequestSchema,
  type ConnectResponse,
  type HeartbeatAck,
  type HelloSchema,
  type Welcome,
  WorkerSessionService,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Fault } from "@fastgpu/domain/fault";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Attempts } from "../attempt/attempts.ts";
import { bootId, bootMs } from "../boot-time.ts";
import type { Journal } from "../journal/journal.ts";
import type { LeaseBook } from "../lease/book.ts";
import { reportMessages } from "./messages.ts";
import { type SendQueue, createSendQueue } from "./send-queue.ts";

/** What a session needs of the worker. */
export interface SessionOptions {
  readonly channel: Channel;
  readonly attempts: Attempts;
  readonly journal: Journal;
  readonly leases: LeaseBook;
  readonly log: Logger;
  readonly stop: AbortSignal;
  /** The Hello without its live attempts. */
  readonly hello: () => MessageInitShape<typeof HelloSchema>;
  /** Answers true where the platform was restored since this worker last obeyed it. */
  readonly onWelcome: (welcome: Welcome) => boolean;
  /** Leases have new ends: the keeper's deadlines follow. */
  readonly onLeases: () => void;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** The worker's line to the scheduler, dialled again for ever. */
export interface SessionLoop {
  /** Resolves after `stop`, when the last connection is closed. */
  readonly done: Promise<void>;
  /** Sends what is in the journal and not yet sent. */
  flush(): void;
  /** Says that no more work is taken. */
  drain(): void;
}

const firstPauseMs = 50;
const lastPauseMs = 5_000;
/** Silence longer than this many heartbeats means a half-open connection. */
const silentHeartbeats = 3;
/** A session that lasted this long was a good one. */
const settledMs = 5_000;

/** Connects, and connects again with a growing, jittered pause whenever the line is lost. */
export function startSession(options: SessionOptions): SessionLoop {
  let current: Connection | undefined;
  let draining = false;
  const run = async (): Promise<void> => {
    for (let failures = 0; !options.stop.aborted;) {
      const connection = new Connection(options, draining);
      const begunMs = performance.now();
      current = connection;
      try {
        await connection.run();
      } catch (error) {
        const fault = Fault.from(error);
        // Every session ends with its token, and is open again at once: nothing that an operator should look at.
        const renewed = connection.welcomed && fault.retryAfterMs === 0;
        if (renewed) options.log.info({ reason: fault.reason }, fault.message);
        else if (!options.stop.aborted) {
          options.log.warn({ reason: fault.reason, err: fault }, "session lost");
        }
      }
      // A session that stood only shortly counts as a failure: two workers with one identity must not spin.
      const stood = connection.welcomed && performance.now() - begunMs > settledMs;
      failures = stood ? 0 : failures + 1;
      const ceilingMs = Math.min(lastPauseMs, firstPauseMs * 2 ** Math.min(failures, 10));
      await sleep(ceilingMs * (0.5 + options.random() / 2), options.stop);
    }
  };
  return {
    done: run(),
    flush: () => current?.flush(),
    drain() {
      draining = true;
      current?.drain();
    },
  };
}

class Connection {
  welcomed = false;
  readonly #options: SessionOptions;
  readonly #queue: SendQueue<ConnectRequest> = createSendQueue();
  readonly #broken = new AbortController();
  readonly #bootId = bootId();
  #draining: boolean;
  #flushing = false;
  #sentUpTo = 0n;
  #heardAt = performance.now();
  #heartbeat: NodeJS.Timeout | undefined;

  constructor(options: SessionOptions, draining: boolean) {
    this.#options = options;
    this.#draining = draining;
  }

  /** One connection from Hello to its end. */
  async run(): Promise<void> {
    const { channel, attempts, stop } = this.#options;
    const client = createClient(WorkerSessionService, channel);
    const liveAttempts = attempts.live();
    this.#send({ case: "hello", value: { ...this.#options.hello(), liveAttempts } });
    const onStop = (): void => this.#queue.end();
    stop.addEventListener("abort", onStop, { once: true });
    // The end of our side first, so that what was queued still goes out; then, soon, the rest.
    const forced = AbortSignal.any([this.#broken.signal, delayed(stop, 1_000)]);
    try {
      for await (const response of client.connect(this.#queue, { signal: forced })) {
        this.#heardAt = performance.now();
        this.#receive(response);
      }
    } finally {
      stop.removeEventListener("abort", onStop);
      clearInterval(this.#heartbeat);
      this.#queue.end();
    }
  }

  /** Many reports become durable together: they go out in one message. */
  flush(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    setImmediate(() => {
      this.#flushing = false;
      this.#sendReports();
    });
  }

  #sendReports(): void {
    if (!this.welcomed) return;
    const { journal } = this.#options;
    const entries = journal.pending(this.#sentUpTo);
    for (const message of reportMessages(entries, this.#bootId)) this.#queue.push(message);
    this.#sentUpTo = entries.at(-1)?.id ?? this.#sentUpTo;
  }

  drain(): void {
    this.#draining = true;
    if (this.welcomed) this.#send({ case: "draining", value: {} });
  }

  #receive({ message }: ConnectResponse): void {
    const { attempts } = this.#options;
    switch (message.case) {
      case "welcome":
        return this.#onWelcome(message.value);
      case "heartbeatAck":
        return this.#onAck(message.value);
      case "leases":
        return attempts.take(message.value.leases);
      case "stops":
        return attempts.stop(message.value.stops);
      case "reportAcks":
        return attempts.acknowledged(message.value.upToReportId);
      case undefined:
        // A message of a newer scheduler.
        return;
    }
  }

  #onWelcome(welcome: Welcome): void {
    const { attempts, onWelcome, log } = this.#options;
    this.welcomed = true;
    const restored = onWelcome(welcome);
    // After a restore nothing of before it may have effects, whatever the restored rows say.
    attempts.reconcile(new Set(restored ? [] : welcome.adoptedAttempts));
    const intervalMs = Math.max(50, Number(welcome.heartbeatIntervalMs));
    this.#heartbeat = setInterval(() => this.#beat(intervalMs), intervalMs);
    this.#beat(intervalMs);
    this.flush();
    if (this.#draining) this.drain();
    log.info(
      {
        node: welcome.node,
        epoch: String(welcome.sessionEpoch),
        adopted: welcome.adoptedAttempts.length,
      },
      "session open",
    );
  }

  #beat(intervalMs: number): void {
    if (performance.now() - this.#heardAt > silentHeartbeats * intervalMs + 1_000) {
      this.#broken.abort(new Fault("UNAVAILABLE", "the scheduler has gone silent"));
      return;
    }
    const progress = this.#options.attempts.takeProgress();
    this.#send({ case: "heartbeat", value: { sentAtMs: BigInt(bootMs()), progress } });
  }

  #onAck(ack: HeartbeatAck): void {
    const { attempts, leases, onLeases } = this.#options;
    attempts.grant(ack.storageGrants);
    leases.acknowledge({
      sentAtMs: Number(ack.sentAtMs),
      serverTimeMs: Number(ack.serverTimeMs),
      nodeLeaseEndMs: Number(ack.nodeLeaseEndMs),
      fundedEndMs: new Map(ack.fundedEnds.map((end) => [end.attempt, Number(end.endMs)])),
    });
    onLeases();
  }

  #send(message: MessageInitShape<typeof ConnectRequestSchema>["message"]): void {
    this.#queue.push(create(ConnectRequestSchema, { message: message ?? { case: undefined } }));
  }
}

/** Aborted some time after another signal. */
function delayed(signal: AbortSignal, ms: number): AbortSignal {
  const later = new AbortController();
  const begin = (): void => {
    setTimeout(() => later.abort(), ms).unref();
  };
  if (signal.aborted) begin();
  else signal.addEventListener("abort", begin, { once: true });
  return later.signal;
}
