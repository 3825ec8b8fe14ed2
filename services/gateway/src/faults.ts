import { fromBinary } from "@bufbuild/protobuf";
import type { DescMessage } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  PreconditionFailureSchema,
  QuotaFailureSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "@fastgpu/contracts/google/rpc/error_details_pb";
import { StatusSchema } from "@fastgpu/contracts/google/rpc/status_pb";
import { Fault } from "@fastgpu/domain/fault";
import { faultToStatus } from "@fastgpu/rpc/status";
import { lostUpstream } from "./grpc-proxy.ts";

const detailSchemas: ReadonlyMap<string, DescMessage> = new Map(
  [
    BadRequestSchema,
    ErrorInfoSchema,
    PreconditionFailureSchema,
    QuotaFailureSchema,
    RequestInfoSchema,
    RetryInfoSchema,
  ].map((schema) => [schema.typeName, schema]),
);

/** A Fault as connect's error, with the same code, message and details that gRPC gets. */
export function connectErrorOf(fault: Fault, requestId: string): ConnectError {
  const wire = faultToStatus(fault, requestId);
  const error = new ConnectError(wire.message, wire.code, undefined, undefined, fault.cause);
  error.details = fromBinary(StatusSchema, wire.details).details.map(({ typeUrl, value }) =>
    readableDetail(typeUrl.slice(typeUrl.lastIndexOf("/") + 1), value),
  );
  return error;
}

/**
 * An error of the service behind as it goes to the caller: its details stay, in a form whose JSON people can read. One
 * without details comes from the transport, not from a service of ours.
 */
export function passError(thrown: unknown, requestId: string): ConnectError {
  if (thrown instanceof Fault) return connectErrorOf(thrown, requestId);
  const error = ConnectError.from(thrown);
  if (error.details.length === 0) return connectErrorOf(bareFault(error), requestId);
  const passed = new ConnectError(error.rawMessage, error.code, undefined, undefined, error);
  passed.details = error.details.map((detail) =>
    "desc" in detail ? detail : readableDetail(detail.type, detail.value),
  );
  return passed;
}

function readableDetail(type: string, value: Uint8Array): ConnectError["details"][number] {
  const desc = detailSchemas.get(type);
  return desc === undefined ? { type, value } : { desc, value: fromBinary(desc, value) };
}

/** The Fault for an error that carries no details: what connect itself and the transport make. */
function bareFault(error: ConnectError): Fault {
  switch (error.code) {
    case Code.Unavailable:
    case Code.Aborted:
      return lostUpstream();
    case Code.Canceled:
      return new Fault("CANCELLED", "the caller cancelled the call");
    case Code.DeadlineExceeded:
      return new Fault("DEADLINE_EXCEEDED", "the call's deadline passed", {
        hint: "the outcome of a write is unknown: repeat it with the same request id",
      });
    case Code.ResourceExhausted:
      return new Fault("LIMIT_EXCEEDED", error.rawMessage);
    case Code.InvalidArgument:
      return new Fault("INVALID_FIELD", error.rawMessage);
    default:
      return new Fault("INTERNAL", error.rawMessage, { cause: error });
  }
}
