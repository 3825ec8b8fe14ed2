import type { EventEmitter } from "node:events";
import type { Readable } from "node:stream";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Message, MessageInitShape, DescMessage } from "@bufbuild/protobuf";
import type { Clock } from "@fastgpu/domain/clock";
import { Fault } from "@fastgpu/domain/fault";
import { Metadata } from "@grpc/grpc-js";
import type {
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  UntypedHandleCall,
  sendUnaryData,
} from "@grpc/grpc-js";
import { decode, encode, isCancelled } from "./adapter.ts";
import { admitCaller, admitRequest } from "./admit.ts";
import type { Authenticator } from "./authenticator.ts";
import type { MethodPlan } from "./method-plan.ts";
import { OpenCall, faultOfStop } from "./open-call.ts";
import type { CallHost } from "./open-call.ts";
import { faultToStatus, toServiceError } from "./status.ts";

/** What the handlers of a server share. */
export interface ServeHost extends CallHost {
  readonly auth: Authenticator;
  readonly clock: Clock;
  readonly maxOpenCalls: number;
  /** True from the beginning of a drain: new calls are refused. */
  draining: boolean;
}

type Init = MessageInitShape<DescMessage>;
type Unary = ServerUnaryCall<Buffer, Buffer>;
type Writable = ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;
type Incoming = ServerReadableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;

/** A method as a grpc-js handler: admission, the typed handler, its answer or its fault. */
export function serveMethod(host: ServeHost, plan: MethodPlan): UntypedHandleCall {
  switch (plan.method.methodKind) {
    case "unary":
      return (call: Unary, callback: sendUnaryData<Buffer>) => {
        void serveUnary(host, plan, call, callback);
      };
    case "client_streaming":
      return (call: ServerReadableStream<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
        void serveClientStream(host, plan, call, callback);
      };
    case "server_streaming":
      return (call: ServerWritableStream<Buffer, Buffer>) => {
        void serveResponses(host, plan, call, async (open) => {
          const request = await firstRequest(host, plan, open, call.request);
          return plan.handler(request, open) as AsyncIterable<Init>;
        });
      };
    case "bidi_streaming":
      return (call: ServerDuplexStream<Buffer, Buffer>) => {
        void serveResponses(host, plan, call, async (open) => {
          const requests = await readRequests(host, plan, open, call);
          return plan.handler(requests, open) as AsyncIterable<Init>;
        });
      };
  }
}

async function serveUnary(
  host: ServeHost,
  plan: MethodPlan,
  call: Unary,
  callback: sendUnaryData<Buffer>,
): Promise<void> {
  const open = openCall(host, plan, call, (fault) => failUnary(open, fault, callback));
  if (isCancelled(call)) open.stop("caller");
  try {
    const request = await firstRequest(host, plan, open, call.request);
    const response = await (plan.handler(request, open) as Promise<Init>);
    const bytes = encode(plan.method.output, response);
    if (open.end(undefined)) callback(null, bytes);
  } catch (thrown) {
    failUnary(open, open.faultOf(thrown), callback);
  }
}

async function serveClientStream(
  host: ServeHost,
  plan: MethodPlan,
  call: ServerReadableStream<Buffer, Buffer>,
  callback: sendUnaryData<Buffer>,
): Promise<void> {
  const open = openCall(host, plan, call, (fault) => failUnary(open, fault, callback));
  if (isCancelled(call)) open.stop("caller");
  try {
    const requests = await readRequests(host, plan, open, call);
    const response = await (plan.handler(requests, open) as Promise<Init>);
    const bytes = encode(plan.method.output, response);
    if (open.end(undefined)) callback(null, bytes);
  } catch (thrown) {
    failUnary(open, open.faultOf(thrown), callback);
  }
}

function failUnary(open: OpenCall, fault: Fault, callback: sendUnaryData<Buffer>): void {
  if (open.end(fault)) callback(toServiceError(faultToStatus(fault, open.requestId)));
}

async function serveResponses(
  host: ServeHost,
  plan: MethodPlan,
  call: Writable,
  start: (open: OpenCall) => Promise<AsyncIterable<Init>>,
): Promise<void> {
  let iterator: AsyncIterator<Init> | undefined;
  let release: (() => void) | undefined;
  const open = openCall(host, plan, call, (fault) => {
    failStream(open, fault, call);
    release?.();
    // The generator ends at its next step; its own cleanup must not hold up the answer.
    void iterator?.return?.().catch(() => undefined);
  });
  if (isCancelled(call)) open.stop("caller");
  try {
    iterator = (await start(open))[Symbol.asyncIterator]();
    endWithToken(host, open);
    // Without this a client learns of an accepted stream only with its first message.
    if (!open.ended) call.sendMetadata(new Metadata());
    while (!open.ended) {
      const next = await iterator.next();
      if (open.ended) break;
      if (next.done === true) {
        if (open.end(undefined)) call.end();
        return;
      }
      if (!call.write(encode(plan.method.output, next.value))) {
        await new Promise<void>((resolve) => {
          release = resolve;
          call.once("drain", resolve);
        });
      }
    }
    await iterator.return?.();
  } catch (thrown) {
    failStream(open, open.faultOf(thrown), call);
  }
}

function failStream(open: OpenCall, fault: Fault, call: Writable): void {
  if (open.end(fault)) {
    call.emit("error", toServiceError(faultToStatus(fault, open.requestId)));
  }
}

function openCall(
  host: ServeHost,
  plan: MethodPlan,
  call: Unary | Incoming | Writable,
  onStop: (fault: Fault) => void,
): OpenCall {
  const deadline = call.getDeadline();
  const open = new OpenCall({
    host,
    plan,
    metadata: call.metadata,
    callerDeadlineMs: typeof deadline === "number" ? deadline : deadline.getTime(),
    onStop,
  });
  (call as EventEmitter).on("cancelled", () => stopOfCancel(open));
  return open;
}

function stopOfCancel(open: OpenCall): void {
  open.stop(open.deadlineIsNear ? "deadline" : "caller");
}

/** Admits the caller and the one request of a call. */
async function firstRequest(
  host: ServeHost,
  plan: MethodPlan,
  open: OpenCall,
  bytes: Buffer,
): Promise<Message> {
  await admit(host, plan, open);
  const request = decode(plan.method.input, bytes);
  await admitRequest(host.auth, plan, open, { request, first: true });
  return request;
}

/**
 * Admits the caller and, where the method names a resource, the first request, before the handler sees anything.
 * Later messages are checked as they are read.
 */
async function readRequests(
  host: ServeHost,
  plan: MethodPlan,
  open: OpenCall,
  call: Incoming,
): Promise<AsyncIterable<Message>> {
  await admit(host, plan, open);
  const requests = admittedRequests(host, plan, open, call);
  if (plan.access?.resource === undefined) return requests;
  const first = await requests.next();
  if (first.done === true) {
    throw Fault.invalid(plan.access.resourcePath, "the stream ended before its first message");
  }
  return prepend(first.value, requests);
}

async function* admittedRequests(
  host: ServeHost,
  plan: MethodPlan,
  open: OpenCall,
  call: Incoming,
): AsyncGenerator<Message, void, undefined> {
  let first = true;
  try {
    // The stream must outlive a handler that stops reading: a bidirectional one still writes.
    for await (const bytes of (call as Readable).iterator({ destroyOnReturn: false })) {
      const request = decode(plan.method.input, bytes as Buffer);
      await admitRequest(host.auth, plan, open, { request, first });
      first = false;
      yield request;
    }
  } catch (thrown) {
    if (thrown instanceof Fault) throw thrown;
    // The transport broke off: a truncated stream must never look complete. Its own event tells why, a turn later.
    await nextTurn();
    throw open.faultOf(faultOfStop("caller"));
  }
  // A reset of the stream reads like its end; that the caller went away is told only afterwards, in the same turn. The
  // stream's own state tells it too, in whatever order the events come.
  await nextTurn();
  if (isCancelled(call)) stopOfCancel(open);
  if (open.ended) throw open.faultOf(faultOfStop("caller"));
}

async function* prepend(
  first: Message,
  rest: AsyncGenerator<Message, void, undefined>,
): AsyncGenerator<Message, void, undefined> {
  yield first;
  yield* rest;
}

async function admit(host: ServeHost, plan: MethodPlan, open: OpenCall): Promise<void> {
  if (open.ended) throw open.faultOf(undefined);
  if (host.draining) throw faultOfStop("shutdown");
  if (host.open.size > host.maxOpenCalls) {
    throw new Fault("UNAVAILABLE", `more than ${host.maxOpenCalls} calls are open`, {
      retryAfterMs: 250,
      hint: "try again in a moment",
    });
  }
  await admitCaller(host.auth, plan, open);
  if (open.ended) throw open.faultOf(undefined);
}

/** A stream may not outlive the token it was opened with. */
function endWithToken(host: ServeHost, open: OpenCall): void {
  const { expiresAtMs } = open.principal;
  if (expiresAtMs === undefined) return;
  const endsAtMs = Date.now() + expiresAtMs - host.clock.nowMs();
  if (endsAtMs >= (open.deadlineMs ?? Infinity)) return;
  open.stopAt(endsAtMs, () => {
    open.stop(
      "shutdown",
      new Fault("UNAVAILABLE", "the token that this stream was opened with has ended", {
        hint: "open the stream again with a new token and resume",
        retryAfterMs: 0,
      }),
    );
  });
}
