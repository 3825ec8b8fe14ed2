import type { Context } from "@fastgpu/telemetry/trace-context";
import type { Logger } from "@fastgpu/telemetry/log";
import type { Principal, Scope } from "./principal.ts";

/** What a handler knows of its call. */
export interface CallContext {
  readonly principal: Principal;
  /** The organisation and project acted on, checked against the principal before the handler ran. */
  readonly scope: Scope;
  /** `package.Service/Method`. */
  readonly method: string;
  /** From the header `x-request-id`; made here where the caller sent none. */
  readonly requestId: string;
  /** Aborted at the deadline, when the caller goes away, or at shutdown; `stopReason(signal)` tells which. */
  readonly signal: AbortSignal;
  /** The deadline in milliseconds since the epoch; undefined for a stream without one. */
  readonly deadlineMs: number | undefined;
  /** Holds the call's span; parent of spans and calls made for it. */
  readonly trace: Context;
  /** The call's span as a W3C traceparent, for rows and messages. */
  readonly traceparent: string;
  /** Carries the request id, the trace id and the method. */
  readonly log: Logger;
  /** A header of the call, in lower case; undefined where it is absent. */
  header(name: string): string | undefined;
}
