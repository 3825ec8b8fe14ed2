import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape } from "@bufbuild/protobuf";
import { anyIs, anyPack, anyUnpack, durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import type { Any } from "@bufbuild/protobuf/wkt";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "@fastgpu/contracts/google/rpc/error_details_pb";
import { StatusSchema } from "@fastgpu/contracts/google/rpc/status_pb";
import { Fault, faultReasons } from "@fastgpu/domain/fault";
import type { FaultCode, FaultReason, FieldViolation } from "@fastgpu/domain/fault";
import { Metadata, status as grpcStatus } from "@grpc/grpc-js";

/** `ErrorInfo.domain` of every FastGPU error. */
export const errorDomain = "fastgpu";
/** The trailer that carries a serialized google.rpc.Status. */
export const detailsKey = "grpc-status-details-bin";

/** A failed call as gRPC carries it. */
export interface WireStatus {
  /** gRPC status code. */
  readonly code: number;
  readonly message: string;
  /** Serialized google.rpc.Status, for the trailer `grpc-status-details-bin`. */
  readonly details: Uint8Array;
}

/** What a grpc-js client reports of a failed call. */
export interface ReceivedStatus {
  readonly code: number;
  readonly details: string;
  readonly metadata?: Metadata | undefined;
}

/**
 * A Fault as a gRPC status: the one place where this is decided. Every status carries ErrorInfo and RequestInfo;
 * BadRequest for broken fields, RetryInfo where a repeat makes sense, QuotaFailure and PreconditionFailure where they
 * apply. The hint travels as `ErrorInfo.metadata.hint`: google.rpc has no message for a sentence of advice without a
 * link. INTERNAL carries the request id and nothing else; its cause is for the server's log.
 */
export function faultToStatus(fault: Fault, requestId: string): WireStatus {
  try {
    return encodeFault(fault, requestId);
  } catch (error) {
    // A wait that is no number, say: a caller must get an answer all the same.
    return encodeFault(
      new Fault("INTERNAL", "a fault could not be encoded", { cause: error }),
      requestId,
    );
  }
}

function encodeFault(fault: Fault, requestId: string): WireStatus {
  const code = grpcStatus[fault.code];
  const internal = fault.reason === "INTERNAL";
  const message = internal ? `internal error; quote request ${requestId}` : fault.message;
  const details = internal
    ? [pack(ErrorInfoSchema, { reason: fault.reason, domain: errorDomain })]
    : detailsOf(fault);
  details.push(pack(RequestInfoSchema, { requestId }));
  return {
    code,
    message,
    details: toBinary(StatusSchema, create(StatusSchema, { code, message, details })),
  };
}

function detailsOf(fault: Fault): Any[] {
  const { reason, message, violations, hint, retryAfterMs } = fault;
  // A fault that came from another service and goes on carries that call's id; this answer has its own.
  const { request_id: _, ...metadata } = fault.metadata;
  const subject = metadata["resource"] ?? "";
  const details = [
    pack(ErrorInfoSchema, {
      reason,
      domain: errorDomain,
      metadata: { ...metadata, ...(hint === undefined ? {} : { hint }) },
    }),
  ];
  if (violations.length > 0) {
    details.push(
      pack(BadRequestSchema, {
        fieldViolations: violations.map(({ field, description }) => ({
          field,
          description,
          reason,
        })),
      }),
    );
  }
  if (retryAfterMs !== undefined) {
    details.push(pack(RetryInfoSchema, { retryDelay: durationFromMs(retryAfterMs) }));
  }
  if (reason === "QUOTA_EXCEEDED") {
    details.push(pack(QuotaFailureSchema, { violations: [{ subject, description: message }] }));
  }
  if (fault.code === "FAILED_PRECONDITION") {
    details.push(
      pack(PreconditionFailureSchema, {
        violations: [{ type: reason, subject, description: message }],
      }),
    );
  }
  return details;
}

function pack<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Any {
  return anyPack(schema, create(schema, init));
}

/** A wire status in the shape in which grpc-js takes errors from a handler. */
export function toServiceError(wire: WireStatus): {
  code: number;
  details: string;
  message: string;
  metadata: Metadata;
} {
  const metadata = new Metadata();
  metadata.set(detailsKey, Buffer.from(wire.details));
  return { code: wire.code, details: wire.message, message: wire.message, metadata };
}

/**
 * The Fault that a failed call carries; the request id is in `metadata.request_id`. A status without our details, as
 * the transport makes them (no connection, deadline, oversized message), becomes the reason that fits its code.
 */
export function statusToFault(received: ReceivedStatus, cause?: unknown): Fault {
  const bytes = received.metadata?.get(detailsKey)[0];
  const decoded = bytes instanceof Uint8Array ? decodeDetails(bytes) : undefined;
  if (decoded === undefined) return bareFault(received, cause);
  return new Fault(decoded.reason, received.details, {
    violations: decoded.violations,
    metadata: decoded.metadata,
    ...(decoded.hint === undefined ? {} : { hint: decoded.hint }),
    ...(decoded.retryAfterMs === undefined ? {} : { retryAfterMs: decoded.retryAfterMs }),
    cause,
  });
}

interface DecodedDetails {
  readonly reason: FaultReason;
  readonly violations: readonly FieldViolation[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;
}

function decodeDetails(bytes: Uint8Array): DecodedDetails | undefined {
  let details: readonly Any[];
  try {
    details = fromBinary(StatusSchema, bytes).details;
  } catch {
    return undefined;
  }
  const info = unpack(details, ErrorInfoSchema);
  const reason = faultReasons.find((known) => known === info?.reason);
  if (info === undefined || info.domain !== errorDomain || reason === undefined) return undefined;
  const { hint, ...metadata } = info.metadata;
  const requestId = unpack(details, RequestInfoSchema)?.requestId;
  const retryDelay = unpack(details, RetryInfoSchema)?.retryDelay;
  return {
    reason,
    hint,
    metadata: requestId === undefined ? metadata : { ...metadata, request_id: requestId },
    violations: unpack(details, BadRequestSchema)?.fieldViolations ?? [],
    retryAfterMs: retryDelay === undefined ? undefined : durationMs(retryDelay),
  };
}

function unpack<D extends DescMessage>(details: readonly Any[], schema: D) {
  for (const any of details) {
    if (anyIs(any, schema)) return anyUnpack(any, schema);
  }
  return undefined;
}

/** The name of a status code as a header carries it, for spans and logs; `UNKNOWN` for what is no code. */
export function statusNameOf(code: unknown): string {
  return (
    (typeof code === "string" && /^\d{1,2}$/.test(code) ? grpcStatus[Number(code)] : undefined) ??
    "UNKNOWN"
  );
}

/** The id of the call that failed, where the server told it. */
export function requestIdOf(fault: Fault): string | undefined {
  return fault.metadata["request_id"];
}

const reasonOfBareCode: Readonly<Record<FaultCode | "UNKNOWN" | "UNIMPLEMENTED", FaultReason>> = {
  CANCELLED: "CANCELLED",
  UNKNOWN: "INTERNAL",
  INVALID_ARGUMENT: "INVALID_FIELD",
  DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
  NOT_FOUND: "NOT_FOUND",
  ALREADY_EXISTS: "ALREADY_EXISTS",
  PERMISSION_DENIED: "PERMISSION_DENIED",
  RESOURCE_EXHAUSTED: "LIMIT_EXCEEDED",
  FAILED_PRECONDITION: "ILLEGAL_STATE",
  ABORTED: "STALE_ETAG",
  OUT_OF_RANGE: "REVISION_TOO_OLD",
  UNIMPLEMENTED: "NOT_FOUND",
  INTERNAL: "INTERNAL",
  UNAVAILABLE: "UNAVAILABLE",
  DATA_LOSS: "CHECKSUM_MISMATCH",
  UNAUTHENTICATED: "UNAUTHENTICATED",
};

function bareFault(received: ReceivedStatus, cause: unknown): Fault {
  const name = grpcStatus[received.code];
  const known = Object.hasOwn(reasonOfBareCode, name ?? "");
  const reason = known ? reasonOfBareCode[name as keyof typeof reasonOfBareCode] : "INTERNAL";
  return new Fault(
    reason,
    received.details === "" ? `the call failed: ${name}` : received.details,
    {
      metadata: { grpc_status: name ?? String(received.code) },
      cause,
    },
  );
}
