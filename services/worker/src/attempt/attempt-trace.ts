import type { Lease } from "@fastgpu/contracts/fastgpu/worker/v1/worker_session_pb";
import type { Logger } from "@fastgpu/telemetry/log";
import { contextFromTraceparent, traceIdOf, type Context } from "@fastgpu/telemetry/trace-context";
import { inSpan, type Tracing } from "@fastgpu/telemetry/tracing";
import { type Span, SpanStatusCode, trace } from "@opentelemetry/api";
import type { End } from "./classify.ts";

/** What an attempt leaves in its task's trace: one span for its time in this worker's hands, with its parts below. */
export interface AttemptTrace {
  /** For calls that are made for the attempt. */
  readonly context: Context;
  /** The attempt's logger: each line names trace, task and attempt. */
  readonly log: Logger;
  /** Does a part of the work in a span of its own, for example `attempt.start`. */
  part<T>(name: string, work: (context: Context) => Promise<T>): Promise<T>;
  /** Notes a moment, for example `running`. */
  note(moment: string): void;
  /** Ends the span with how the attempt ended. */
  end(end: End): void;
  /** Ends the span of an attempt that goes on without this worker. */
  leave(): void;
}

/** Opens the span of an attempt below its lease's. */
export function traceAttempt(tracing: Tracing, lease: Lease, log: Logger): AttemptTrace {
  const parent = contextFromTraceparent(lease.traceparent);
  const attributes = {
    "fastgpu.task": lease.task,
    "fastgpu.attempt": lease.attempt,
    "fastgpu.project": lease.project,
  };
  const span = tracing.tracer.startSpan("attempt.run", { attributes }, parent);
  return new Traced(tracing, { lease, log, span, context: trace.setSpan(parent, span) });
}

class Traced implements AttemptTrace {
  readonly context: Context;
  readonly #tracing: Tracing;
  readonly #lease: Lease;
  readonly #serviceLog: Logger;
  readonly #span: Span;
  #log: Logger | undefined;

  constructor(tracing: Tracing, of: { lease: Lease; log: Logger; span: Span; context: Context }) {
    this.context = of.context;
    this.#tracing = tracing;
    this.#lease = of.lease;
    this.#serviceLog = of.log;
    this.#span = of.span;
  }

  /** Made when first asked for: thousands of attempts a second have nothing to say. */
  get log(): Logger {
    const { task, attempt } = this.#lease;
    this.#log ??= this.#serviceLog.child({ trace_id: traceIdOf(this.context), task, attempt });
    return this.#log;
  }

  part<T>(name: string, work: (context: Context) => Promise<T>): Promise<T> {
    return inSpan(this.#tracing, { name, parent: this.context }, work);
  }

  note(moment: string): void {
    this.#span.addEvent(moment);
  }

  end(end: End): void {
    this.#span.setAttribute("fastgpu.exit_class", end.exitClass);
    if (end.exitClass !== "ok") {
      this.#span.setStatus({ code: SpanStatusCode.ERROR, message: end.message });
    }
    this.#span.end();
    if (this.#serviceLog.isLevelEnabled("debug")) {
      this.log.debug({ exitClass: end.exitClass, exitCode: end.exitCode }, "attempt ended");
    }
  }

  leave(): void {
    if (!this.#span.isRecording()) return;
    this.#span.setAttribute("fastgpu.handed_over", true);
    this.#span.end();
  }
}
