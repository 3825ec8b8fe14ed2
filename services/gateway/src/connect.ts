import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createConnectRouter,
  createContextKey,
  createContextValues,
} from "@connectrpc/connect";
import type { ConnectRouter, HandlerContext, MethodImpl, Transport } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import {
  compressionGzip,
  createGrpcTransport,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from "@connectrpc/connect-node";
import { Health } from "@fastgpu/contracts/grpc/health/v1/health_pb";
import { ServerReflection } from "@fastgpu/contracts/grpc/reflection/v1/reflection_pb";
import { ServerReflection as ServerReflectionAlpha } from "@fastgpu/contracts/grpc/reflection/v1alpha/reflection_pb";
import { Fault } from "@fastgpu/domain/fault";
import type { Logger } from "@fastgpu/telemetry/log";
import type { HealthHandlers } from "@fastgpu/rpc/health";
import { limits } from "@fastgpu/rpc/limits";
import { faultOfStop } from "@fastgpu/rpc/open-call";
import { createReflection } from "@fastgpu/rpc/reflection";
import { statusNameOf } from "@fastgpu/rpc/status";
import { admit, openPassage } from "./admission.ts";
import type { AdmissionHost, Arrival, Passage } from "./admission.ts";
import type { UpstreamName } from "./config.ts";
import { connectErrorOf, passError } from "./faults.ts";
import { lostUpstream } from "./grpc-proxy.ts";
import { checkBody } from "./json-body.ts";
import { explainRefusal } from "./refusal.ts";
import { routes } from "./routes.ts";
import type { Route } from "./routes.ts";
import type { Upstream } from "./upstream.ts";

type NodeRequest = Parameters<typeof universalRequestFromNodeRequest>[0];
type NodeResponse = Parameters<typeof universalResponseToNodeResponse>[1];
type Init = MessageInitShape<DescMessage>;

/** What the Connect, gRPC-Web and JSON side of the gateway needs. */
export interface ConnectHost extends AdmissionHost {
  readonly upstreams: Readonly<Record<UpstreamName, Upstream>>;
  readonly health: HealthHandlers;
  /** What reflection shows. */
  readonly services: readonly DescService[];
  readonly log: Logger;
  /** Aborted at the beginning of a drain: response streams end. */
  readonly draining: AbortSignal;
}

/** Answers a request whose path is a method; false where it is none. */
export type ConnectHandler = (request: NodeRequest, response: NodeResponse) => boolean;

/** What one call carries from its arrival to its handler. */
interface Carried {
  readonly arrival: Arrival;
  readonly passage: Passage;
  readonly fault: Fault | undefined;
  readonly public: boolean;
  authorization?: string | undefined;
}

const carriedKey = createContextKey<Carried | undefined>(undefined);

/**
 * Connect, gRPC-Web and JSON, over HTTP/1.1 and HTTP/2, for every route: messages are decoded and passed to the service
 * as gRPC, errors come back with their details. Reflection and health are answered here, by gRPC too.
 */
export function createConnectHandler(host: ConnectHost): ConnectHandler {
  const router = createConnectRouter({
    acceptCompression: [compressionGzip],
    jsonOptions: { ignoreUnknownFields: false },
    readMaxBytes: limits.messageBytes,
    requestGate: (context) => gate(host, context),
  });
  const transports = new Map<UpstreamName, Transport>();
  for (const route of routes.values()) addRoute(router, host, route, transports);
  addOwnServices(router, host);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  return (request, response) => {
    const handler = handlers.get(request.url?.split("?", 1)[0] ?? "");
    if (handler === undefined) return false;
    serve(host, handler, request, response).catch((error: unknown) => {
      host.log.debug(
        { err: error, method: handler.requestPath },
        "the answer could not be written",
      );
      response.destroy();
    });
    return true;
  };
}

async function serve(
  host: ConnectHost,
  handler: UniversalHandler,
  request: NodeRequest,
  response: NodeResponse,
): Promise<void> {
  const values = createContextValues();
  const universal = universalRequestFromNodeRequest(request, response, undefined, values);
  const checked = await checkBody(handler.method, universal);
  const arrival: Arrival = {
    method: handler.requestPath.slice(1),
    peer: request.socket.remoteAddress ?? "unknown",
    header: (name) => universal.header.get(name) ?? undefined,
  };
  const passage = openPassage(host, arrival);
  const open = !routes.has(handler.requestPath);
  values.set(carriedKey, { arrival, passage, fault: checked.fault, public: open });
  try {
    const answer = await handler({ ...universal, body: checked.body });
    const explained = await explainRefusal(answer, passage.requestId);
    await universalResponseToNodeResponse(explained, response);
  } finally {
    passage.end("CANCELLED");
  }
}

/** Runs before a message is looked at, in the form of each protocol: identity, allowance, then the JSON's own faults. */
async function gate(host: ConnectHost, context: HandlerContext): Promise<void> {
  const carried = context.values.get(carriedKey);
  if (carried === undefined) throw new TypeError("a call arrived around the front door");
  const { passage } = carried;
  context.responseHeader.set("x-request-id", passage.requestId);
  if (carried.public) return;
  try {
    carried.authorization = await admit(host, carried.arrival);
    if (carried.fault !== undefined) throw carried.fault;
  } catch (error) {
    const fault = Fault.from(error);
    passage.end(fault.code);
    throw connectErrorOf(fault, passage.requestId);
  }
}

function addRoute(
  router: ConnectRouter,
  host: ConnectHost,
  route: Route,
  transports: Map<UpstreamName, Transport>,
): void {
  const { method, upstream } = route;
  const transport = (): Transport => {
    const known = transports.get(upstream) ?? transportTo(host.upstreams[upstream]);
    transports.set(upstream, known);
    return known;
  };
  // The types of a method known only at run time cannot be checked; the descriptor itself does it.
  router.rpc(method, implementationOf(host, method, transport) as MethodImpl<DescMethod>);
}

function transportTo(upstream: Upstream): Transport {
  return createGrpcTransport({
    baseUrl: "http://upstream",
    nodeOptions: { createConnection: upstream.dial },
    acceptCompression: [],
    readMaxBytes: limits.transportMessageBytes,
    pingIntervalMs: limits.keepaliveMs,
    pingTimeoutMs: limits.keepaliveTimeoutMs,
  });
}

function implementationOf(host: ConnectHost, method: DescMethod, transport: () => Transport) {
  switch (method.methodKind) {
    case "unary":
      return async (request: MessageShape<DescMessage>, context: HandlerContext) =>
        passUnary(context, (headers) =>
          transport().unary(
            method as DescMethodUnary,
            context.signal,
            context.timeoutMs(),
            headers,
            request as Init,
          ),
        );
    case "client_streaming":
      return async (requests: AsyncIterable<Init>, context: HandlerContext) =>
        passUnary(context, async (headers) => {
          const answer = await passStream(context, { method, transport, headers, requests });
          for await (const message of answer.message) return { message };
          throw new Fault("INTERNAL", "the stream ended without an answer");
        });
    case "server_streaming":
      return (request: MessageShape<DescMessage>, context: HandlerContext) =>
        passResponses(host, context, {
          method,
          transport,
          requests: one(request as Init),
        });
    case "bidi_streaming":
      return (requests: AsyncIterable<Init>, context: HandlerContext) =>
        passResponses(host, context, { method, transport, requests });
  }
}

async function* one(message: Init): AsyncGenerator<Init> {
  yield message;
}

async function passUnary<T>(
  context: HandlerContext,
  call: (headers: Record<string, string>) => Promise<{ readonly message: T }>,
): Promise<T> {
  const { passage, headers } = outgoing(context);
  try {
    const { message } = await call(headers);
    passage.end("OK");
    return message;
  } catch (error) {
    throw endWith(context, passage, error);
  }
}

interface StreamToPass {
  readonly method: DescMethod;
  readonly transport: () => Transport;
  readonly requests: AsyncIterable<Init>;
}

async function* passResponses(host: ConnectHost, context: HandlerContext, stream: StreamToPass) {
  const { passage, headers } = outgoing(context);
  const signal = AbortSignal.any([context.signal, host.draining]);
  try {
    const answer = await passStream(context, { ...stream, headers, signal });
    yield* answer.message;
    passage.end("OK");
  } catch (error) {
    throw endWith(context, passage, host.draining.aborted ? faultOfStop("shutdown") : error);
  }
}

function passStream(
  context: HandlerContext,
  stream: StreamToPass & {
    readonly headers: Record<string, string>;
    readonly signal?: AbortSignal;
  },
) {
  return stream
    .transport()
    .stream(
      stream.method as DescMethodStreaming,
      stream.signal ?? context.signal,
      context.timeoutMs(),
      stream.headers,
      stream.requests,
    );
}

/** The passage of a call, and the headers that go on with it. */
function outgoing(context: HandlerContext): {
  readonly passage: Passage;
  readonly headers: Record<string, string>;
} {
  const carried = context.values.get(carriedKey);
  if (carried === undefined) throw new TypeError("a call arrived around the front door");
  const { passage, authorization } = carried;
  return {
    passage,
    headers: {
      "x-request-id": passage.requestId,
      traceparent: passage.traceparent,
      ...(authorization === undefined ? {} : { authorization }),
    },
  };
}

function endWith(context: HandlerContext, passage: Passage, thrown: unknown) {
  // A stream that is reset although nobody here gave up was broken by the other side.
  const lost = !context.signal.aborted && ConnectError.from(thrown).code === Code.Canceled;
  const error = passError(lost ? lostUpstream() : thrown, passage.requestId);
  passage.end(statusNameOf(String(error.code satisfies Code)));
  return error;
}

/** Health and reflection, answered by the gateway itself. */
function addOwnServices(router: ConnectRouter, host: ConnectHost): void {
  const { health } = host;
  const open = createReflection([
    ...host.services,
    Health,
    ServerReflection,
    ServerReflectionAlpha,
  ]);
  router.service(Health, {
    check: (request) => health.check(request),
    list: () => health.list(),
    watch: (request, context) => health.watch(request, context),
  });
  router.service(ServerReflection, {
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
  });
  router.service(ServerReflectionAlpha, {
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
  });
}
