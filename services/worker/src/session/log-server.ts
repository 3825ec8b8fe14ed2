import { create } from "@bufbuild/protobuf";
import { LogStream as WireLogStream } from "@fastgpu/contracts/fastgpu/scheduler/v1/task_pb";
import {
  type ServeLogsRequest,
  ServeLogsRequestSchema,
  type ServeLogsResponse,
  WorkerSessionService,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import { Fault } from "@fastgpu/domain/fault";
import { sleep } from "@fastgpu/lifecycle/signals";
import type { LogStream } from "@fastgpu/domain/log-frame";
import type { Channel } from "@fastgpu/rpc/channel";
import { createClient } from "@fastgpu/rpc/client";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Attempts } from "../attempt/attempts.ts";
import { type LogRange, readLogRange } from "../log/reader.ts";
import { createSendQueue } from "./send-queue.ts";

/** Options of {@link serveLogs}. */
export interface LogServerOptions {
  readonly channel: Channel;
  readonly attempts: Attempts;
  readonly log: Logger;
  readonly stop: AbortSignal;
  logPath(attempt: string): string;
  random(): number;
}

/** Greatest answer, well below the limit of a message. */
const maxAnswerBytes = 1024 * 1024;
const maxWaitMs = 60_000;

const wireStreams: Readonly<Record<LogStream, WireLogStream>> = {
  stdout: WireLogStream.STDOUT,
  stderr: WireLogStream.STDERR,
  system: WireLogStream.SYSTEM,
};

/** Serves ranges of logs on a stream of its own until `stop`, dialling again whenever it is lost. */
export async function serveLogs(options: LogServerOptions): Promise<void> {
  const watchers = new Map<string, Set<() => void>>();
  options.attempts.onLog((attempt) => {
    for (const wake of watchers.get(attempt) ?? []) wake();
  });
  const client = createClient(WorkerSessionService, options.channel);
  for (let failures = 0; !options.stop.aborted;) {
    try {
      const answers = createSendQueue<ServeLogsRequest>();
      const requests = new Map<bigint, AbortController>();
      answers.push(create(ServeLogsRequestSchema, {}));
      try {
        for await (const wanted of client.serveLogs(answers, { signal: options.stop })) {
          failures = 0;
          if (wanted.cancel) {
            requests.get(wanted.requestId)?.abort();
            continue;
          }
          const cancelled = new AbortController();
          requests.set(wanted.requestId, cancelled);
          const signal = AbortSignal.any([options.stop, cancelled.signal]);
          void answer(options, watchers, wanted, signal)
            .then((reply) => answers.push(reply))
            .finally(() => requests.delete(wanted.requestId));
        }
      } finally {
        for (const request of requests.values()) request.abort();
        answers.end();
      }
    } catch (error) {
      if (options.stop.aborted) return;
      options.log.debug({ err: Fault.from(error) }, "log stream lost");
    }
    failures += 1;
    const ceilingMs = Math.min(5_000, 50 * 2 ** Math.min(failures, 10));
    await sleep(ceilingMs * (0.5 + options.random() / 2), options.stop);
  }
}

/** One request, one answer: the bytes asked for are the reader's credit, so a slow reader holds up nothing. */
async function answer(
  options: LogServerOptions,
  watchers: Map<string, Set<() => void>>,
  wanted: ServeLogsResponse,
  signal: AbortSignal,
): Promise<ServeLogsRequest> {
  const { requestId, attempt } = wanted;
  const { attempts } = options;
  if (!attempts.has(attempt)) {
    return create(ServeLogsRequestSchema, {
      requestId,
      error: "the attempt is not on this worker",
    });
  }
  const offset = Number(wanted.offset);
  const maxBytes = Math.min(wanted.maxBytes, maxAnswerBytes);
  const read = (): Promise<LogRange> => readLogRange(options.logPath(attempt), offset, maxBytes);
  try {
    // Asked before reading: what was written before the end is then in the range.
    let live = attempts.isLive(attempt);
    let range = await read();
    if (range.frames.length === 0 && live && wanted.waitMs > 0) {
      await grown(watchers, attempt, Math.min(wanted.waitMs, maxWaitMs), signal);
      live = attempts.isLive(attempt);
      range = await read();
    }
    return create(ServeLogsRequestSchema, {
      requestId,
      frames: range.frames.map(({ record, end }) => ({
        stream: wireStreams[record.stream],
        timeMs: BigInt(Math.round(record.timeMs)),
        data: record.data,
        endOffset: BigInt(offset + end),
        ...(record.element === undefined ? {} : { arrayIndex: record.element }),
      })),
      nextOffset: BigInt(range.nextOffset),
      end: !live && range.frames.length === 0,
    });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return create(ServeLogsRequestSchema, { requestId, error: message });
  }
}

/** Resolves when the attempt's log grew or it ended, or after `ms`. */
function grown(
  watchers: Map<string, Set<() => void>>,
  attempt: string,
  ms: number,
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    const wakes = watchers.get(attempt) ?? new Set();
    watchers.set(attempt, wakes);
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      wakes.delete(finish);
      if (wakes.size === 0) watchers.delete(attempt);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal.addEventListener("abort", finish, { once: true });
    wakes.add(finish);
  });
}
