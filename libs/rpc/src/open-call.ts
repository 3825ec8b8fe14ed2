import { randomUUID } from "node:crypto";
import { Fault } from "@fastgpu/domain/fault";
import { Stopped } from "@fastgpu/lifecycle/signals";
import type { StopReason } from "@fastgpu/lifecycle/signals";
import type { Logger } from "@fastgpu/telemetry/log";
import { contextFromTraceparent, formatTraceparent } from "@fastgpu/telemetry/trace-context";
import type { Context } from "@fastgpu/telemetry/trace-context";
import type { Tracing } from "@fastgpu/telemetry/tracing";
import type { Metadata } from "@grpc/grpc-js";
import { SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { Span } from "@opentelemetry/api";
import type { CallContext } from "./context.ts";
import { limits } from "./limits.ts";
import type { MethodPlan } from "./method-plan.ts";
import { anonymous } from "./principal.ts";
import type { Principal, Scope } from "./principal.ts";

/** What every call of a server shares. */
export interface CallHost {
  readonly log: Logger;
  readonly tracing: Tracing;
  /** Calls that have not ended. */
  readonly open: Set<OpenCall>;
  /** Told of every finished call, for metrics and for the audit of refusals. */
  readonly observe: ((call: FinishedCall) => void) | undefined;
}

/** One finished call, for metrics and for the audit of refusals. */
export interface FinishedCall {
  /** `package.Service/Method`. */
  readonly method: string;
  /** gRPC status name, `OK` or a fault's code. */
  readonly code: string;
  readonly durationMs: number;
  /** Who called; `anonymous` where nobody could be made out. */
  readonly principal: Principal;
}

/** What a call is opened with. */
export interface OpenCallOptions {
  readonly host: CallHost;
  readonly plan: MethodPlan;
  readonly metadata: Metadata;
  /** In milliseconds since the epoch; Infinity where the caller set none. */
  readonly callerDeadlineMs: number;
  /** Called once when the call is cut short, by the deadline, the caller or a shutdown. */
  readonly onStop: (fault: Fault) => void;
}

const requestIdPattern = /^[\w.:-]{1,128}$/;

/** A call in progress: the handler's context, and its end. Everything that few handlers look at is made on demand. */
export class OpenCall implements CallContext {
  readonly method: string;
  readonly requestId: string;
  readonly deadlineMs: number | undefined;
  principal: Principal = anonymous;
  scope: Scope = {};
  readonly #options: OpenCallOptions;
  readonly #parent: Context;
  readonly #span: Span;
  readonly #startedMs = performance.now();
  #controller: AbortController | undefined;
  #log: Logger | undefined;
  #stopped: StopReason | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;

  constructor(options: OpenCallOptions) {
    const { host, plan } = options;
    this.#options = options;
    this.method = plan.name;
    const sentId = this.header("x-request-id");
    this.requestId = sentId !== undefined && requestIdPattern.test(sentId) ? sentId : randomUUID();
    this.#parent = contextFromTraceparent(this.header("traceparent"));
    this.#span = host.tracing.tracer.startSpan(
      plan.name,
      {
        kind: SpanKind.SERVER,
        attributes: { "rpc.system.name": "grpc", "rpc.method": plan.name },
      },
      this.#parent,
    );
    const limitMs =
      plan.method.methodKind === "unary" ? Date.now() + limits.unaryDeadlineMs : Infinity;
    const deadlineMs = Math.min(options.callerDeadlineMs, limitMs);
    this.deadlineMs = Number.isFinite(deadlineMs) ? deadlineMs : undefined;
    // The transport answers at the caller's deadline by itself; ours is for a handler that listens, or where it set none.
    if (deadlineMs !== options.callerDeadlineMs || this.streamsResponses) this.#armDeadline();
    host.open.add(this);
  }

  get trace(): Context {
    return trace.setSpan(this.#parent, this.#span);
  }

  get traceparent(): string {
    return formatTraceparent(this.#span.spanContext());
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#stopped === undefined) this.#armDeadline();
      else this.#controller.abort(new Stopped(this.#stopped));
    }
    return this.#controller.signal;
  }

  get log(): Logger {
    this.#log ??= this.#options.host.log.child({
      request_id: this.requestId,
      trace_id: this.#span.spanContext().traceId,
      method: this.method,
    });
    return this.#log;
  }

  /** Whether it answers with a stream, which a drain ends at once. */
  get streamsResponses(): boolean {
    const kind = this.#options.plan.method.methodKind;
    return kind === "server_streaming" || kind === "bidi_streaming";
  }

  /** Whether the answer has been given. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Whether a cancel now tells of the deadline. A caller whose own deadline passed cancels before ours does: it started
   * the same time earlier, by as much as the request was on its way, which is long on a busy machine.
   */
  get deadlineIsNear(): boolean {
    if (this.deadlineMs === undefined) return false;
    const leftMs = this.deadlineMs - Date.now();
    const wholeMs = performance.now() - this.#startedMs + leftMs;
    return leftMs <= Math.min(250, Math.max(25, wholeMs / 10));
  }

  header(name: string): string | undefined {
    const value = this.#options.metadata.get(name)[0];
    return typeof value === "string" ? value : undefined;
  }

  /** Cuts the call short, once: the handler's signal is aborted and the caller gets the fault. */
  stop(reason: StopReason, fault?: Fault): void {
    if (this.#ended || this.#stopped !== undefined) return;
    this.#stopped = reason;
    this.#controller?.abort(new Stopped(reason));
    this.#options.onStop(fault ?? faultOfStop(reason));
  }

  /** Runs `action` at a time (milliseconds since the epoch) unless the call ends before; replaces an earlier plan. */
  stopAt(timeMs: number, action: () => void): void {
    if (!Number.isFinite(timeMs)) return;
    clearTimeout(this.#timer);
    const waitMs = Math.min(Math.max(0, timeMs - Date.now()), 2 ** 31 - 1);
    this.#timer = setTimeout(action, waitMs);
  }

  #armDeadline(): void {
    if (this.#timer !== undefined || this.#ended || this.deadlineMs === undefined) return;
    this.stopAt(this.deadlineMs, () => this.stop("deadline"));
  }

  /** Claims the right to answer; false where the call has been answered. */
  end(fault: Fault | undefined): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    clearTimeout(this.#timer);
    const { host, plan } = this.#options;
    host.open.delete(this);
    const code = fault?.code ?? "OK";
    this.#span.setAttribute("rpc.response.status_code", code);
    if (fault !== undefined) this.#report(fault);
    this.#span.end();
    const durationMs = performance.now() - this.#startedMs;
    host.observe?.({ method: plan.name, code, durationMs, principal: this.principal });
    return true;
  }

  #report(fault: Fault): void {
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: fault.reason });
    if (fault.reason === "INTERNAL") {
      this.log.error({ err: fault.cause ?? fault }, "call failed by a fault of ours");
    } else {
      this.log.debug({ reason: fault.reason, fault: fault.message }, "call refused");
    }
  }

  /** What a thrown value means for the caller: an error that follows from the stop tells of the stop. */
  faultOf(thrown: unknown): Fault {
    if (this.#stopped !== undefined && !(thrown instanceof Fault))
      return faultOfStop(this.#stopped);
    return Fault.from(thrown);
  }
}

/** What a caller is told when its call is cut short. */
export function faultOfStop(reason: StopReason): Fault {
  if (reason === "shutdown") {
    return new Fault("DRAINING", "the server is shutting down", {
      hint: "connect again and resume",
      retryAfterMs: 500,
    });
  }
  if (reason === "deadline") {
    return new Fault("DEADLINE_EXCEEDED", "the call's deadline passed", {
      hint: "the outcome of a write is unknown: repeat it with the same request id",
    });
  }
  return new Fault("CANCELLED", "the caller cancelled the call");
}
