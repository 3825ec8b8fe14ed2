import { gunzipSync } from "node:zlib";
import type { DescMethod, JsonValue } from "@bufbuild/protobuf";
import type { UniversalServerRequest } from "@connectrpc/connect/protocol";
import { Fault } from "@fastgpu/domain/fault";
import { limits } from "@fastgpu/rpc/limits";
import { checkJson } from "./json-fields.ts";

/** A request after its JSON has been looked at: what to hand on, and what is wrong with it. */
export interface CheckedBody {
  readonly body: UniversalServerRequest["body"];
  readonly fault?: Fault;
}

/** Bytes before each message of a Connect stream: flags and length. */
const envelopeBytes = 5;

/**
 * Reads the JSON of a request whole and checks it against the method's message, so that a misspelt field is refused with
 * its path instead of being ignored. Other bodies (binary, streams of requests) pass untouched.
 */
export async function checkBody(
  method: DescMethod,
  request: UniversalServerRequest,
): Promise<CheckedBody> {
  const type = request.header.get("content-type")?.split(";", 1)[0]?.trim() ?? "";
  const encoding = request.header.get("content-encoding") ?? "identity";
  const { body } = request;
  if (!isByteStream(body)) return { body };
  if (type === "application/json" && method.methodKind === "unary") {
    return encoding === "identity" || encoding === "gzip"
      ? checkUnary(method, body, encoding)
      : { body };
  }
  if (encoding !== "identity") return { body };
  if (type === "application/connect+json" && method.methodKind === "server_streaming") {
    return checkEnvelope(method, body);
  }
  return { body };
}

async function checkUnary(
  method: DescMethod,
  body: AsyncIterable<Uint8Array>,
  encoding: "identity" | "gzip",
): Promise<CheckedBody> {
  try {
    const bytes = await readAll(body);
    const json = parse(encoding === "gzip" ? unzip(bytes) : bytes);
    checkJson(method.input, json);
    return { body: json };
  } catch (error) {
    return { body: {}, fault: Fault.from(error) };
  }
}

async function checkEnvelope(
  method: DescMethod,
  body: AsyncIterable<Uint8Array>,
): Promise<CheckedBody> {
  let bytes: Buffer = Buffer.alloc(0);
  try {
    bytes = await readAll(body);
    // Flag 1 marks a compressed message: it is left to the codec.
    if (bytes[0] === 0) checkJson(method.input, parse(bytes.subarray(envelopeBytes)));
    return { body: once(bytes) };
  } catch (error) {
    return { body: once(bytes), fault: Fault.from(error) };
  }
}

function unzip(bytes: Buffer): Buffer {
  try {
    return gunzipSync(bytes, { maxOutputLength: limits.messageBytes });
  } catch (error) {
    throw new Fault("INVALID_FIELD", "the body cannot be unzipped", {
      hint: `at most ${limits.messageBytes} bytes come out of it`,
      cause: error,
    });
  }
}

function parse(bytes: Buffer): JsonValue {
  if (bytes.length === 0) return {};
  try {
    return JSON.parse(bytes.toString("utf8")) as JsonValue;
  } catch (error) {
    throw new Fault("INVALID_FIELD", `the body is not JSON: ${String(error)}`, {
      hint: "send one JSON object, `{}` where there is nothing to say",
    });
  }
}

async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    // Somewhat too much is read and thrown away, so that the refusal arrives; far too much breaks the connection.
    if (size > limits.transportMessageBytes) break;
    if (size <= limits.messageBytes) chunks.push(chunk);
  }
  if (size <= limits.messageBytes) return Buffer.concat(chunks);
  throw new Fault("LIMIT_EXCEEDED", `the body has more than ${limits.messageBytes} bytes`, {
    hint: "send less in one message, or use the streaming form of the call",
    metadata: { limit_bytes: String(limits.messageBytes) },
  });
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

function isByteStream(body: UniversalServerRequest["body"]): body is AsyncIterable<Uint8Array> {
  return typeof body === "object" && body !== null && Symbol.asyncIterator in body;
}
