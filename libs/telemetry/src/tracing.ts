import type { Tracer } from "@opentelemetry/api";

/** A tracer handed to a service. Providers are passed, never global: seven services share a process. */
export interface Tracing {
  readonly tracer: Tracer;
  /** Flushes and closes the exporter. */
  shutdown(): Promise<void>;
}
