import { toBinary } from "@bufbuild/protobuf";
import type { DescFile, DescService } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { file_google_rpc_error_details } from "@fastgpu/contracts/google/rpc/error_details_pb";
import { ServerReflection } from "@fastgpu/contracts/grpc/reflection/v1/reflection_pb";
import { ServerReflection as ServerReflectionAlpha } from "@fastgpu/contracts/grpc/reflection/v1alpha/reflection_pb";
import { status } from "@grpc/grpc-js";
import { service } from "./handlers.ts";
import type { BoundService } from "./handlers.ts";

/** A reflection question, in the shape that v1 and v1alpha share. */
export type ReflectionQuestion =
  | { readonly case: "fileByFilename"; readonly value: string }
  | { readonly case: "fileContainingSymbol"; readonly value: string }
  | {
      readonly case: "fileContainingExtension";
      readonly value: { readonly containingType: string; readonly extensionNumber: number };
    }
  | { readonly case: "allExtensionNumbersOfType"; readonly value: string }
  | { readonly case: "listServices"; readonly value: string }
  | { readonly case: undefined; readonly value?: undefined };

/** A reflection answer, in the shape that v1 and v1alpha share. */
export type ReflectionAnswer =
  | {
      readonly case: "fileDescriptorResponse";
      readonly value: { readonly fileDescriptorProto: Uint8Array[] };
    }
  | {
      readonly case: "allExtensionNumbersResponse";
      readonly value: { readonly baseTypeName: string; readonly extensionNumber: number[] };
    }
  | {
      readonly case: "listServicesResponse";
      readonly value: { readonly service: { readonly name: string }[] };
    }
  | {
      readonly case: "errorResponse";
      readonly value: { readonly errorCode: number; readonly errorMessage: string };
    };

/** Answers the questions of one reflection stream; remembers which files it has sent. */
export type Reflector = (question: ReflectionQuestion) => ReflectionAnswer;

/** Everything reachable from the services, indexed the ways in which reflection is asked. */
interface Index {
  readonly serviceNames: readonly string[];
  readonly files: ReadonlyMap<string, DescFile>;
  /** Full name of a service, method, message, field, enum or extension → its file. */
  readonly symbols: ReadonlyMap<string, DescFile>;
  /** `extendee number` → the file of the extension. */
  readonly extensions: ReadonlyMap<string, DescFile>;
}

/**
 * Server reflection over these services: a maker of one reflector per stream. It serves the descriptors as protoc wrote
 * them, with their custom options, so that a client sees permissions and validation rules too.
 */
export function createReflection(services: readonly DescService[]): () => Reflector {
  let index: Index | undefined;
  return () => {
    // Few processes are ever asked: the index is made for the first who asks.
    index ??= indexOf(services);
    const found = index;
    const sent = new Set<DescFile>();
    return (question) => answer(found, sent, question);
  };
}

function answer(index: Index, sent: Set<DescFile>, question: ReflectionQuestion): ReflectionAnswer {
  switch (question.case) {
    case "listServices":
      return {
        case: "listServicesResponse",
        value: { service: index.serviceNames.map((name) => ({ name })) },
      };
    case "fileByFilename":
      return fileAnswer(index.files.get(question.value), question.value, sent);
    case "fileContainingSymbol":
      return fileAnswer(index.symbols.get(question.value), question.value, sent);
    case "fileContainingExtension": {
      const key = `${question.value.containingType} ${question.value.extensionNumber}`;
      return fileAnswer(index.extensions.get(key), key, sent);
    }
    case "allExtensionNumbersOfType": {
      const start = `${question.value} `;
      const extensionNumber = [...index.extensions.keys()]
        .filter((key) => key.startsWith(start))
        .map((key) => Number(key.slice(start.length)));
      return {
        case: "allExtensionNumbersResponse",
        value: { baseTypeName: question.value, extensionNumber },
      };
    }
    case undefined:
      return failed(status.INVALID_ARGUMENT, "the request asks for nothing");
  }
}

/** The file and those it needs that this stream has not sent yet. */
function fileAnswer(
  file: DescFile | undefined,
  asked: string,
  sent: Set<DescFile>,
): ReflectionAnswer {
  if (file === undefined) return failed(status.NOT_FOUND, `${asked} is not known`);
  const fresh = [file, ...[...closureOf([file])].filter((one) => one !== file && !sent.has(one))];
  for (const one of fresh) sent.add(one);
  return {
    case: "fileDescriptorResponse",
    value: {
      fileDescriptorProto: fresh.map((one) => toBinary(FileDescriptorProtoSchema, one.proto)),
    },
  };
}

function failed(errorCode: number, errorMessage: string): ReflectionAnswer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

/** The files and all that they import, directly or not. */
function closureOf(files: Iterable<DescFile>): Set<DescFile> {
  const closure = new Set(files);
  // A set is walked in order of insertion, so what is added here is visited too.
  for (const file of closure) for (const dependency of file.dependencies) closure.add(dependency);
  return closure;
}

function indexOf(services: readonly DescService[]): Index {
  const files = new Map<string, DescFile>();
  const symbols = new Map<string, DescFile>();
  const extensions = new Map<string, DescFile>();
  // No service names the details of errors; a client that prints errors asks for them all the same.
  const roots = [...services.map((one) => one.file), file_google_rpc_error_details];
  for (const file of closureOf(roots)) {
    // The descriptor names files without their suffix; reflection names them with it.
    files.set(file.proto.name, file);
    for (const type of nestedTypes(file)) {
      symbols.set(type.typeName, file);
      if (type.kind === "service") {
        for (const method of type.methods) symbols.set(`${type.typeName}.${method.name}`, file);
      } else if (type.kind === "message") {
        for (const field of type.fields) symbols.set(`${type.typeName}.${field.name}`, file);
      } else if (type.kind === "extension") {
        extensions.set(`${type.extendee.typeName} ${type.number}`, file);
      }
    }
  }
  return { serviceNames: services.map((one) => one.typeName), files, symbols, extensions };
}

/** The reflection services v1 and v1alpha for a server with these services. */
export function reflectionServices(services: readonly DescService[]): BoundService[] {
  const open = createReflection([...services, ServerReflection, ServerReflectionAlpha]);
  return [
    service(ServerReflection, {
      async *serverReflectionInfo(requests) {
        const reflect = open();
        for await (const request of requests) {
          yield {
            validHost: request.host,
            originalRequest: request,
            messageResponse: reflect(request.messageRequest),
          };
        }
      },
    }),
    service(ServerReflectionAlpha, {
      async *serverReflectionInfo(requests) {
        const reflect = open();
        for await (const request of requests) {
          yield {
            validHost: request.host,
            originalRequest: request,
            messageResponse: reflect(request.messageRequest),
          };
        }
      },
    }),
  ];
}
