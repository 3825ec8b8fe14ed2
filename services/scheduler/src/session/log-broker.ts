import { create } from "@bufbuild/protobuf";
import {
  ServeLogsResponseSchema,
  type ServeLogsRequest,
  type ServeLogsResponse,
} from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { NodeId } from "@fastgpu/domain/ids";
import { createSendQueue, type SendQueue } from "./queue.ts";

/** A range of an attempt's log that a reader wants. */
export interface LogRangeRequest {
  /** The attempt's name on its worker: a member's has its rank. */
  readonly attempt: string;
  readonly offset: number;
  /** The reader's credit in bytes. */
  readonly maxBytes: number;
  /** How long the worker may wait for something new, in milliseconds. */
  readonly waitMs: number;
}

/** Log streams of the workers that are connected to this replica. */
export interface LogBroker {
  /** Serves one worker's stream until it ends: what the stream sends out. */
  serve(
    node: NodeId,
    answers: AsyncIterable<ServeLogsRequest>,
    signal: AbortSignal,
  ): AsyncIterable<ServeLogsResponse>;
  /** A range from a worker; undefined where it is not connected, or the stream broke meanwhile. */
  read(
    node: NodeId,
    request: LogRangeRequest,
    signal: AbortSignal,
  ): Promise<ServeLogsRequest | undefined>;
}

interface Link {
  readonly queue: SendQueue<ServeLogsResponse>;
  readonly pending: Map<bigint, (answer: ServeLogsRequest | undefined) => void>;
}

/** A broker without workers. */
export function createLogBroker(): LogBroker {
  const links = new Map<NodeId, Link>();
  let lastRequest = 0n;
  return {
    async *serve(node, answers, signal) {
      const link: Link = { queue: createSendQueue(signal), pending: new Map() };
      links.get(node)?.queue.end();
      links.set(node, link);
      void receive(link, answers).then(
        () => link.queue.end(),
        (error: unknown) => link.queue.end(error),
      );
      try {
        yield* link.queue;
      } finally {
        if (links.get(node) === link) links.delete(node);
        for (const answer of link.pending.values()) answer(undefined);
      }
    },
    read(node, request, signal) {
      const link = links.get(node);
      if (link === undefined || signal.aborted) return Promise.resolve(undefined);
      lastRequest += 1n;
      const requestId = lastRequest;
      return new Promise((resolve) => {
        const cancel = (): void => {
          link.queue.push(create(ServeLogsResponseSchema, { requestId, cancel: true }));
          finish(undefined);
        };
        const finish = (answer: ServeLogsRequest | undefined): void => {
          signal.removeEventListener("abort", cancel);
          link.pending.delete(requestId);
          resolve(answer);
        };
        link.pending.set(requestId, finish);
        signal.addEventListener("abort", cancel, { once: true });
        const sent = link.queue.push(
          create(ServeLogsResponseSchema, {
            requestId,
            attempt: request.attempt,
            offset: BigInt(request.offset),
            maxBytes: request.maxBytes,
            waitMs: request.waitMs,
          }),
        );
        if (!sent) finish(undefined);
      });
    },
  };
}

async function receive(link: Link, answers: AsyncIterable<ServeLogsRequest>): Promise<void> {
  for await (const answer of answers) link.pending.get(answer.requestId)?.(answer);
}
