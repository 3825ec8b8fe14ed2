import { randomBytes } from "node:crypto";
import { ROOT_CONTEXT, SpanStatusCode, trace } from "@opentelemetry/api";
import type { Attributes, Context, Span, SpanKind, Tracer } from "@opentelemetry/api";
import type { InMemorySpanExporter, SpanProcessor } from "@opentelemetry/sdk-trace";

/** A tracer handed to a service. Providers are passed, never global: seven services share a process. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Flushes and closes the exporter. */
  shutdown(): Promise<void>;
}

/** Options of {@link createTracing}. */
export interface TracingOptions {
  /** The service's name as traces show it, for example `scheduler`. */
  readonly service: string;
  /** Address of an OTLP/HTTP collector, for example `http://localhost:4318/v1/traces`; missing: nothing is exported. */
  readonly otlpUrl?: string | undefined;
  /** Keeps finished spans in this exporter; for tests. */
  readonly memory?: InMemorySpanExporter | undefined;
  /** Share of new traces to record, 0 to 1; spans of a recorded trace are always recorded. Default 1. */
  readonly sampleRatio?: number | undefined;
}

/**
 * Where OpenTelemetry's own variables send traces: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, or
 * OTEL_EXPORTER_OTLP_ENDPOINT with `/v1/traces` behind it; undefined where neither is set.
 */
export function otlpUrlOf(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const own = env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
  if (own !== undefined && own !== "") return own;
  const base = env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  if (base === undefined || base === "") return undefined;
  return `${base.replace(/\/+$/, "")}/v1/traces`;
}

/**
 * Starts tracing. Without an exporter the tracer only makes and passes on trace ids (the SDK is not even loaded), so
 * that logs and rows carry them at almost no cost.
 */
export async function createTracing(options: TracingOptions): Promise<Tracing> {
  if (options.otlpUrl === undefined && options.memory === undefined) return passiveTracing;
  const [sdk, resources] = await Promise.all([
    import("@opentelemetry/sdk-trace"),
    import("@opentelemetry/resources"),
  ]);
  const spanProcessors: SpanProcessor[] = [];
  if (options.memory !== undefined) {
    spanProcessors.push(new sdk.SimpleSpanProcessor({ exporter: options.memory }));
  }
  if (options.otlpUrl !== undefined) {
    const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
    spanProcessors.push(
      new sdk.BatchSpanProcessor({ exporter: new OTLPTraceExporter({ url: options.otlpUrl }) }),
    );
  }
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({ "service.name": options.service }),
    sampler: new sdk.ParentBasedSampler({
      root: new sdk.TraceIdRatioBasedSampler(options.sampleRatio ?? 1),
    }),
    spanProcessors,
  });
  return {
    tracer: provider.getTracer("fastgpu"),
    async shutdown() {
      await provider.shutdown();
    },
  };
}

let pool = Buffer.alloc(0);
let used = 0;

/** Random bytes as hexadecimal; drawn many at a time, since each draw has a price of its own. */
function randomHex(bytes: number): string {
  if (used + bytes > pool.length) {
    pool = randomBytes(4_096);
    used = 0;
  }
  used += bytes;
  return pool.toString("hex", used - bytes, used);
}

/** Makes trace ids where there are none and passes them on; records nothing. */
const passiveTracer: Tracer = {
  startSpan(_name, options, context = ROOT_CONTEXT) {
    const parent = options?.root === true ? undefined : trace.getSpanContext(context);
    return trace.wrapSpanContext(
      parent ?? {
        traceId: randomHex(16),
        spanId: randomHex(8),
        traceFlags: 0,
      },
    );
  },
  startActiveSpan(): never {
    throw new TypeError("there is no active span: contexts are passed, see inSpan");
  },
};

/** Tracing that records nothing and passes trace ids on: the default, and what tests use. */
export const passiveTracing: Tracing = { tracer: passiveTracer, shutdown: () => Promise.resolve() };

/** What {@link inSpan} needs to know of a span. */
export interface SpanOptions {
  readonly name: string;
  /** The parent's context; a new trace where it holds no span. */
  readonly parent: Context;
  readonly kind?: SpanKind;
  readonly attributes?: Attributes;
}

/** Runs `work` in a span of its own; an error is recorded on the span and thrown on. */
export async function inSpan<T>(
  tracing: Tracing,
  options: SpanOptions,
  work: (context: Context, span: Span) => Promise<T>,
): Promise<T> {
  const { name, parent, kind, attributes } = options;
  const span = tracing.tracer.startSpan(
    name,
    {
      ...(kind === undefined ? {} : { kind }),
      ...(attributes === undefined ? {} : { attributes }),
    },
    parent,
  );
  try {
    return await work(trace.setSpan(parent, span), span);
  } catch (error) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: String(error) });
    throw error;
  } finally {
    span.end();
  }
}
