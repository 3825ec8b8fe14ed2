import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type {
  DescMessage,
  DescMethod,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { Fault } from "@fastgpu/domain/fault";
import type { MethodDefinition, ServiceDefinition } from "@grpc/grpc-js";
import { limits } from "./limits.ts";

/**
 * The whole seam between protobuf-es and grpc-js. grpc-js carries bytes only: messages are encoded and decoded by our
 * own call pipeline, so that a malformed or oversized one is refused with the same details as any other bad request,
 * and so that the gateway can pass bytes on undecoded.
 */

const same = (bytes: Buffer): Buffer => bytes;

/** The HTTP/2 path of a method, `/package.Service/Method`. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** The name of a method as logs, spans and audit events carry it, `package.Service/Method`. */
export function fullNameOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** A method as grpc-js wants it, carrying bytes. */
export function toMethodDefinition(method: DescMethod): MethodDefinition<Buffer, Buffer> {
  return {
    path: pathOf(method),
    originalName: method.localName,
    requestStream:
      method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream:
      method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

/** A service as grpc-js wants it, carrying bytes; keys are the methods' local names. */
export function toServiceDefinition(service: DescService): ServiceDefinition {
  const definition: Record<string, MethodDefinition<Buffer, Buffer>> = {};
  for (const method of service.methods) definition[method.localName] = toMethodDefinition(method);
  return definition;
}

/** The bytes of a message, without a copy. Takes a message or the plain object that makes one. */
export function encode<D extends DescMessage>(schema: D, init: MessageInitShape<D>): Buffer {
  const bytes = toBinary(schema, create(schema, init));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The message that `bytes` hold, or a Fault (LIMIT_EXCEEDED, INVALID_FIELD). */
export function decode<D extends DescMessage>(schema: D, bytes: Uint8Array): MessageShape<D> {
  if (bytes.byteLength > limits.messageBytes) {
    throw new Fault(
      "LIMIT_EXCEEDED",
      `the message has ${bytes.byteLength} bytes, at most ${limits.messageBytes} are allowed`,
      {
        hint: "send less in one message, or use the streaming form of the call",
        metadata: { limit_bytes: String(limits.messageBytes) },
      },
    );
  }
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw new Fault("INVALID_FIELD", `the bytes are not a ${schema.typeName}`, {
      hint: "generate the client from the same version of the protobuf files",
      cause: error,
    });
  }
}

/**
 * Whether the caller of a grpc-js server call has gone. grpc-js tells of it by the event `cancelled`, but one that comes
 * while it still reads the request is told to nobody: its own flag is then the only trace.
 */
export function isCancelled(call: object): boolean {
  const { call: inner } = call as { readonly call?: { checkCancelled?(): boolean } };
  return inner?.checkCancelled?.() === true;
}
