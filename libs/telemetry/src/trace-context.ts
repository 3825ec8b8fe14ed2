import { ROOT_CONTEXT, trace } from "@opentelemetry/api";
import type { Context, SpanContext } from "@opentelemetry/api";

export type { Context } from "@opentelemetry/api";
export { ROOT_CONTEXT } from "@opentelemetry/api";

const traceparentPattern = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** The span named by a W3C traceparent header, or undefined where it is malformed or all zero. */
export function parseTraceparent(text: string): SpanContext | undefined {
  const match = traceparentPattern.exec(text);
  const [, traceId, spanId, flags] = match ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (text.startsWith("ff") || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}

/** A span as a W3C traceparent header (version 00). */
export function formatTraceparent(span: SpanContext): string {
  return `00-${span.traceId}-${span.spanId}-0${span.traceFlags & 1}`;
}

/** The context whose parent span a traceparent names; the empty context where there is none. */
export function contextFromTraceparent(traceparent: string | undefined): Context {
  const span = traceparent === undefined ? undefined : parseTraceparent(traceparent);
  return span === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, span);
}

/** The traceparent of a context's span, or undefined where it has none. */
export function traceparentOf(context: Context): string | undefined {
  const span = trace.getSpanContext(context);
  return span === undefined ? undefined : formatTraceparent(span);
}

/** The trace id of a context's span, for logs. */
export function traceIdOf(context: Context): string | undefined {
  return trace.getSpanContext(context)?.traceId;
}
