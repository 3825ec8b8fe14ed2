/**
 * The closed set of reasons a call can fail for. Each has the same name in
 * `fastgpu.errors.v1.ErrorReason` (with the prefix `ERROR_REASON_`), where it is described with an example.
 */
export const faultReasons = [
  "INVALID_FIELD",
  "UNKNOWN_FIELD",
  "LIMIT_EXCEEDED",
  "UNAUTHENTICATED",
  "TOKEN_EXPIRED",
  "PERMISSION_DENIED",
  "NOT_FOUND",
  "REQUEST_ID_REUSED",
  "ALREADY_EXISTS",
  "STALE_ETAG",
  "ILLEGAL_STATE",
  "FENCED",
  "BUDGET_EXHAUSTED",
  "QUOTA_EXCEEDED",
  "REVISION_TOO_OLD",
  "JOIN_TOKEN_USED",
  "CHECKSUM_MISMATCH",
  "WORKER_UNREACHABLE",
  "RATE_LIMITED",
  "DRAINING",
  "UNAVAILABLE",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "INTERNAL",
] as const;
export type FaultReason = (typeof faultReasons)[number];

/** gRPC status names that a fault can map to. */
export type FaultCode =
  | "INVALID_ARGUMENT"
  | "UNAUTHENTICATED"
  | "PERMISSION_DENIED"
  | "NOT_FOUND"
  | "ALREADY_EXISTS"
  | "ABORTED"
  | "FAILED_PRECONDITION"
  | "RESOURCE_EXHAUSTED"
  | "OUT_OF_RANGE"
  | "DATA_LOSS"
  | "UNAVAILABLE"
  | "DEADLINE_EXCEEDED"
  | "CANCELLED"
  | "INTERNAL";

/** The code that belongs to each reason: a reason never appears with two codes. */
export const codeOfReason: Readonly<Record<FaultReason, FaultCode>> = {
  INVALID_FIELD: "INVALID_ARGUMENT",
  UNKNOWN_FIELD: "INVALID_ARGUMENT",
  LIMIT_EXCEEDED: "INVALID_ARGUMENT",
  UNAUTHENTICATED: "UNAUTHENTICATED",
  TOKEN_EXPIRED: "UNAUTHENTICATED",
  PERMISSION_DENIED: "PERMISSION_DENIED",
  NOT_FOUND: "NOT_FOUND",
  REQUEST_ID_REUSED: "ALREADY_EXISTS",
  ALREADY_EXISTS: "ALREADY_EXISTS",
  STALE_ETAG: "ABORTED",
  ILLEGAL_STATE: "FAILED_PRECONDITION",
  FENCED: "FAILED_PRECONDITION",
  BUDGET_EXHAUSTED: "FAILED_PRECONDITION",
  QUOTA_EXCEEDED: "RESOURCE_EXHAUSTED",
  REVISION_TOO_OLD: "OUT_OF_RANGE",
  JOIN_TOKEN_USED: "FAILED_PRECONDITION",
  CHECKSUM_MISMATCH: "DATA_LOSS",
  WORKER_UNREACHABLE: "UNAVAILABLE",
  RATE_LIMITED: "RESOURCE_EXHAUSTED",
  DRAINING: "UNAVAILABLE",
  UNAVAILABLE: "UNAVAILABLE",
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  CANCELLED: "CANCELLED",
  INTERNAL: "INTERNAL",
};

/** One broken rule of a request: the path of the field (`task.spec.resources.gpu.count`) and what it must be. */
export interface FieldViolation {
  field: string;
  description: string;
}

export interface FaultDetails {
  /** What the caller can do about it, as one sentence. */
  hint?: string;
  /** Broken fields, for INVALID_FIELD, UNKNOWN_FIELD and LIMIT_EXCEEDED. */
  violations?: readonly FieldViolation[];
  /** Machine-readable facts, for example `{resource: "tasks/task-…"}`. */
  metadata?: Readonly<Record<string, string>>;
  /** When to try again, in milliseconds. */
  retryAfterMs?: number;
  cause?: unknown;
}

/**
 * The one error class of FastGPU: what crosses a service's edge as a failure. Refusals inside the domain are return
 * values; a Fault is thrown only where a call cannot go on. libs/rpc maps it to a gRPC status, in one place.
 */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly reason: FaultReason;
  readonly hint: string | undefined;
  readonly violations: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly retryAfterMs: number | undefined;

  constructor(reason: FaultReason, message: string, details: FaultDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reason = reason;
    this.hint = details.hint;
    this.violations = details.violations ?? [];
    this.metadata = details.metadata ?? {};
    this.retryAfterMs = details.retryAfterMs;
  }

  /** The gRPC status name of this fault. */
  get code(): FaultCode {
    return codeOfReason[this.reason];
  }

  /** Any thrown value as a Fault; what is not one already becomes INTERNAL with the value kept as the cause. */
  static from(thrown: unknown): Fault {
    if (thrown instanceof Fault) return thrown;
    return new Fault("INTERNAL", "internal error", { cause: thrown });
  }

  /** A fault about one field of the request. */
  static invalid(field: string, description: string, hint?: string): Fault {
    return new Fault("INVALID_FIELD", `${field}: ${description}`, {
      violations: [{ field, description }],
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** A fault that names a resource which does not exist or that the caller may not see. */
  static notFound(resource: string, hint?: string): Fault {
    return new Fault("NOT_FOUND", `${resource} was not found`, {
      metadata: { resource },
      ...(hint === undefined ? {} : { hint }),
    });
  }
}
