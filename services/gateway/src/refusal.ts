import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { Fault } from "@fastgpu/domain/fault";
import { connectErrorOf } from "./faults.ts";

/** A refusal as Connect's codec writes it; only ours carry details. */
interface PlainRefusal {
  readonly code: string;
  readonly message: string;
  readonly details?: unknown;
}

/**
 * Gives the details that every other error has to the few that the codec makes before any of our code runs: an unknown
 * content type, a malformed timeout, a body that is too large. Streams are left alone: their errors come inside.
 */
export async function explainRefusal(
  answer: UniversalServerResponse,
  requestId: string,
): Promise<UniversalServerResponse> {
  if (answer.status < 400) return answer;
  const bytes = await readAll(answer.body);
  const fault = faultOf(answer.status, bytes);
  if (fault === undefined)
    return bytes.length === 0 ? answer : withBody(answer, answer.status, bytes);
  const error = connectErrorOf(fault, requestId);
  const keepsStatus = answer.status === 405 || answer.status === 415;
  const status = keepsStatus ? answer.status : codeToHttpStatus(error.code);
  return withBody(answer, status, errorToJsonBytes(error, undefined));
}

function faultOf(status: number, bytes: Buffer): Fault | undefined {
  if (bytes.length === 0) {
    if (status !== 405 && status !== 415) return undefined;
    return new Fault("INVALID_FIELD", "a call is a POST with content-type application/json", {
      hint: "curl -H 'content-type: application/json' -d '{}' …; gRPC, gRPC-Web and Connect work too",
    });
  }
  const refusal = parse(bytes);
  if (refusal === undefined || refusal.details !== undefined) return undefined;
  const message = refusal.message.replace(/^protocol error: /, "");
  if (refusal.code === "invalid_argument") return new Fault("INVALID_FIELD", message);
  if (refusal.code === "resource_exhausted") return new Fault("LIMIT_EXCEEDED", message);
  return undefined;
}

function parse(bytes: Buffer): PlainRefusal | undefined {
  try {
    return JSON.parse(bytes.toString("utf8")) as PlainRefusal;
  } catch {
    return undefined;
  }
}

function withBody(
  answer: UniversalServerResponse,
  status: number,
  bytes: Uint8Array,
): UniversalServerResponse {
  const header = new Headers(answer.header);
  header.set("content-type", "application/json");
  header.set("content-length", String(bytes.byteLength));
  return { ...answer, status, header, body: one(bytes) };
}

async function* one(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function readAll(body: AsyncIterable<Uint8Array> | undefined): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
}
