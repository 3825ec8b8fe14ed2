import { create, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { OrgId, ProjectId } from "@fastgpu/domain/ids";
import { claimRequest, requestBody, requestReused } from "./requests.ts";
import type { Json, RequestKey } from "./requests.ts";
import type { Tx } from "./transaction.ts";

/** One call that creates something, with the answer that it will get. */
export interface OnceRequest<I extends DescMessage, O extends DescMessage> {
  /** The organisation in which the request id counts. */
  readonly org: OrgId;
  readonly method: string;
  /** "" where the client sent none: then every call is new. */
  readonly requestId: string;
  readonly request: { readonly schema: I; readonly message: MessageShape<I> };
  readonly response: { readonly schema: O; readonly message: MessageInitShape<O> };
  readonly nowMs: number;
}

/**
 * Runs `work` unless this request was answered before, and answers what was answered first. Another body under the same
 * request id is a Fault REQUEST_ID_REUSED.
 */
export async function once<I extends DescMessage, O extends DescMessage>(
  tx: Tx,
  call: OnceRequest<I, O>,
  work: () => Promise<void>,
): Promise<MessageShape<O>> {
  const { schema } = call.response;
  const message = create(schema, call.response.message);
  if (call.requestId !== "") {
    const key: RequestKey = {
      org: call.org,
      // Requests of an organisation have no project: the organisation's own uuid stands in its place.
      project: `proj-${call.org.slice("org-".length)}` as ProjectId,
      method: call.method,
      requestId: call.requestId,
    };
    const outcome = await claimRequest(tx, {
      key,
      body: requestBody(bodyOf(call)),
      response: toBinary(schema, message),
      nowMs: call.nowMs,
    });
    if (outcome.kind === "replay") return fromBinary(schema, outcome.response);
    if (outcome.kind === "conflict") throw requestReused(key, outcome.field);
  }
  await work();
  return message;
}

function bodyOf(call: OnceRequest<DescMessage, DescMessage>): Json {
  const json = toJson(call.request.schema, call.request.message, { useProtoFieldName: true });
  if (typeof json !== "object" || json === null || Array.isArray(json)) return json as Json;
  const { request_id: _, ...body } = json;
  return body as Json;
}
