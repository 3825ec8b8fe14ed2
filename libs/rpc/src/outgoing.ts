import { randomUUID } from "node:crypto";
import type { DescMethod } from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import { ROOT_CONTEXT, formatTraceparent } from "@fastgpu/telemetry/trace-context";
import { passiveTracing } from "@fastgpu/telemetry/tracing";
import { Metadata } from "@grpc/grpc-js";
import type { CallOptions as TransportOptions, ServiceError } from "@grpc/grpc-js";
import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import type { Span } from "@opentelemetry/api";
import { fullNameOf } from "./adapter.ts";
import type { Channel } from "./channel.ts";
import type { CallOptions } from "./client.ts";
import type { CallContext } from "./context.ts";
import { statusToFault } from "./status.ts";

/** Default time limit of a unary call, in milliseconds. */
const unaryTimeoutMs = 30_000;

/** One call to make, without its messages. */
export interface OutgoingCall {
  readonly channel: Channel;
  readonly method: DescMethod;
  readonly options: CallOptions;
}

/** A call about to be sent: its headers, deadline and span. */
export interface PreparedCall {
  readonly metadata: Metadata;
  readonly transport: TransportOptions;
  /** In milliseconds since the epoch; Infinity where there is none. */
  readonly deadlineMs: number;
  /** Cancels the call. */
  readonly signal: AbortSignal | undefined;
  /** Ends the span. */
  finish(fault: Fault | undefined): void;
}

/** Makes headers, deadline and span of a call from its options and the call it is made for. */
export async function prepareCall(outgoing: OutgoingCall): Promise<PreparedCall> {
  const { channel, method, options } = outgoing;
  const { parent } = options;
  const token =
    channel.token === undefined
      ? undefined
      : await channel.token({ onBehalfOf: parent === undefined ? undefined : actorOf(parent) });
  const signal = mergeSignals(parent?.signal, options.signal);
  throwIfAborted(signal);
  const context = options.trace ?? parent?.trace ?? ROOT_CONTEXT;
  const span = channel.tracing.tracer.startSpan(
    fullNameOf(method),
    {
      kind: SpanKind.CLIENT,
      attributes: { "rpc.system.name": "grpc", "rpc.method": fullNameOf(method) },
    },
    context,
  );
  const metadata = new Metadata({ waitForReady: options.waitForReady ?? true });
  metadata.set("x-request-id", parent?.requestId ?? randomUUID());
  // A client that records nothing begins no trace: its "not sampled" would hide the call from those who record.
  if (channel.tracing !== passiveTracing || context !== ROOT_CONTEXT) {
    metadata.set("traceparent", formatTraceparent(span.spanContext()));
  }
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  for (const [name, value] of Object.entries(options.headers ?? {})) metadata.set(name, value);
  const deadlineMs = deadlineOf(method, options);
  return {
    metadata,
    transport: Number.isFinite(deadlineMs) ? { deadline: deadlineMs } : {},
    deadlineMs,
    signal,
    finish: (fault) => finishSpan(span, fault),
  };
}

/** For whom a call made within another one is made. */
function actorOf({ principal }: CallContext): string | undefined {
  return principal.onBehalfOf ?? (principal.kind === "anonymous" ? undefined : principal.id);
}

function deadlineOf(method: DescMethod, options: CallOptions): number {
  const timeoutMs =
    options.timeoutMs ?? (method.methodKind === "unary" ? unaryTimeoutMs : Infinity);
  return Math.min(Date.now() + timeoutMs, options.parent?.deadlineMs ?? Infinity);
}

function mergeSignals(
  first: AbortSignal | undefined,
  second: AbortSignal | undefined,
): AbortSignal | undefined {
  if (first === undefined || second === undefined) return first ?? second;
  return AbortSignal.any([first, second]);
}

function finishSpan(span: Span, fault: Fault | undefined): void {
  span.setAttribute("rpc.response.status_code", fault?.code ?? "OK");
  if (fault !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: fault.reason });
  span.end();
}

/** Throws CANCELLED where the call is not wanted any more: what was never sent need not be taken back. */
function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw new Fault("CANCELLED", "the call was cancelled");
}

/**
 * Calls `cancel` once the signal is aborted; the answer forgets about it. A turn later, since HTTP/2 in Node loses a
 * reset that is sent in the same turn as the request: the server would never hear of it.
 */
export function onAbort(signal: AbortSignal | undefined, cancel: () => void): () => void {
  if (signal === undefined) return () => undefined;
  const soon = (): void => void setImmediate(cancel);
  if (signal.aborted) soon();
  else signal.addEventListener("abort", soon, { once: true });
  return () => signal.removeEventListener("abort", soon);
}

/** A failure of the transport as the Fault that it carries. */
export function faultOfTransport(error: unknown): Fault {
  const received = error as Partial<ServiceError>;
  return statusToFault(
    {
      code: typeof received.code === "number" ? received.code : 2,
      details: received.details ?? String(error),
      metadata: received.metadata,
    },
    error,
  );
}
