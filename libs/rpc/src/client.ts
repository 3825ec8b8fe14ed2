import type {
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { Context } from "@fastgpu/telemetry/trace-context";
import type { CallContext } from "./context.ts";
import type { Channel } from "./channel.ts";
import { callClientStream, callServerStream, callBidiStream } from "./call-stream.ts";
import { callUnary } from "./call-unary.ts";

/** Options of one call. */
export interface CallOptions {
  /**
   * The call being served for which this one is made: its deadline, cancellation, request id, trace and principal are
   * passed on.
   */
  readonly parent?: CallContext | undefined;
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined;
  /** Time limit in milliseconds; the parent's deadline stands beside it. Unary calls have 30 s by default. */
  readonly timeoutMs?: number | undefined;
  /** The trace that the call belongs to; the parent's by default. */
  readonly trace?: Context | undefined;
  /** More headers, in lower case. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /**
   * Whether a unary call is repeated on UNAVAILABLE. By default it is where that is safe: reads, and requests that
   * carry a request id.
   */
  readonly retry?: boolean | undefined;
  /** Waits for the connection instead of failing at once where there is none. Default true. */
  readonly waitForReady?: boolean | undefined;
}

/** The call of one method, typed from its descriptor. It fails with a Fault. */
export type ClientMethod<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodClientStreaming<infer I, infer O>
        ? (
            requests: AsyncIterable<MessageInitShape<I>>,
            options?: CallOptions,
          ) => Promise<MessageShape<O>>
        : M extends DescMethodBiDiStreaming<infer I, infer O>
          ? (
              requests: AsyncIterable<MessageInitShape<I>>,
              options?: CallOptions,
            ) => AsyncIterable<MessageShape<O>>
          : never;

/** The calls of a service, one per method. */
export type Client<S extends DescService> = {
  readonly [K in keyof S["method"]]: ClientMethod<S["method"][K]>;
};

/**
 * A typed client of a service: `createClient(TaskService, channel)`. Calls pass on deadline, cancel and trace of their
 * `parent`, carry the channel's token and an `x-request-id`, and fail with the Fault that the server threw. Leaving
 * the loop over a response stream cancels it.
 */
export function createClient<S extends DescService>(service: S, channel: Channel): Client<S> {
  const client: Record<string, unknown> = {};
  for (const method of service.methods) client[method.localName] = callerOf(method, channel);
  return client as Client<S>;
}

type Init = MessageInitShape<DescMessage>;

function callerOf(method: DescMethod, channel: Channel): unknown {
  switch (method.methodKind) {
    case "unary":
      return (request: Init, options: CallOptions = {}) =>
        callUnary({ channel, method, request, options });
    case "server_streaming":
      return (request: Init, options: CallOptions = {}) =>
        callServerStream({ channel, method, options }, request);
    case "client_streaming":
      return (requests: AsyncIterable<Init>, options: CallOptions = {}) =>
        callClientStream({ channel, method, options }, requests);
    case "bidi_streaming":
      return (requests: AsyncIterable<Init>, options: CallOptions = {}) =>
        callBidiStream({ channel, method, options }, requests);
  }
}
